"""A model in a repository as every layer above the engine sees it: its interface, its versions, their
states.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from plumbline.contracts.inference import VersionRef

__all__ = ["ModelMetadata", "TensorSpec", "VersionKind", "VersionState", "VersionStatus"]


class VersionKind(StrEnum):
    """What a version is made of."""

    MODEL = "model"
    """A model file: arrays in, arrays out."""
    TEXT = "text"
    """An encoder folder with its tokenizer: texts in (`BYTES` [n]), vectors out (`FP32` [n, width])."""
    PIPELINE = "pipeline"
    """Stages, each a version of any kind, wired by tensor names."""
    PYTHON = "python"
    """A class with `setup` and `run`, in the worker."""


class VersionState(StrEnum):
    """Life of a version at this server. `serving.models.lifecycle` holds the transition table."""

    FOUND = "found"
    PREPARING = "preparing"
    LOADING = "loading"
    WARMING = "warming"
    READY = "ready"
    UNLOADING = "unloading"
    UNLOADED = "unloaded"
    FAILED = "failed"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """An input or output in the words of the Open Inference Protocol.

    Attributes:
        name: of the tensor.
        datatype: `FP32`, `INT64`, `BYTES` and so on.
        shape: -1 for an extent that a request chooses.
        bounds: the largest extent of each axis; equals `shape` where that is fixed. None: no bound is known.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    bounds: tuple[int | None, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelMetadata:
    """The interface of one version, and what it costs.

    Attributes:
        ref: which version.
        kind: what it is made of.
        inputs: what a request must give.
        outputs: what it gets.
        digest: SHA-256 of its content in the repository.
        max_rows: most rows of one launch along the batch symbol; 0: requests are never batched together.
        unbatched_because: why it is not batched, in plain words; empty when it is.
        memory_bytes: what it takes in one worker, by plan or by what a class states; `memory` has the parts
            by name. A sum over what is known: see `memory_unstated`.
        memory: weights, state, arenas, ... in bytes.
        memory_unstated: parts whose size nobody knows (a Python class that states none); not in `memory`.
    """

    ref: VersionRef
    kind: VersionKind
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    digest: str = ""
    max_rows: int = 0
    unbatched_because: str = ""
    memory_bytes: int = 0
    memory: Mapping[str, int] = field(default_factory=dict)
    memory_unstated: tuple[str, ...] = ()

    @property
    def stated_memory_bytes(self) -> int | None:
        """`memory_bytes`, or None where nothing of it is known: not stated is not 0."""
        return None if self.memory_unstated and not self.memory else self.memory_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionStatus:
    """Where a version stands at this server. `reason` says why, for people; `settings` as they are in
    force.
    """

    ref: VersionRef
    state: VersionState
    reason: str = ""
    since_wall_ns: int = 0
    pinned: bool = False
    share: float = 0.0
    settings: Mapping[str, Any] = field(default_factory=dict)
