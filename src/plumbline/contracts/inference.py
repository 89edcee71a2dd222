"""One inference as every layer above the engine sees it: the call, its result, and when what happened.

Values are numpy arrays. A tensor of byte strings (datatype `BYTES`) is an array of dtype object whose
elements are `bytes`. bfloat16 (`BF16`) travels as uint16.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from plumbline.contracts.requests import DEFAULT_PRIORITY, LOCAL_TENANT, RequestId, TenantId

__all__ = ["InferenceCall", "InferenceResult", "InferenceTiming", "Tensors", "VersionRef"]

Tensors = Mapping[str, np.ndarray]

_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class VersionRef:
    """A version of a model, named exactly. Prints as `model@version`, which is also its key in logs."""

    model: str
    version: str

    def __str__(self) -> str:
        return f"{self.model}@{self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceCall:
    """What a caller wants.

    Attributes:
        id: of the request, unique among those alive.
        model: name in the repository.
        version: a pinned version, or None: routing decides.
        inputs: name -> array.
        wanted: outputs to return, by name; empty for all.
        tenant: for whom.
        priority: 0..9, higher is more urgent.
        arrived_ns: when it reached the gateway, absolute monotonic.
        deadline_ns: when the answer must be there, absolute monotonic; None for no deadline.
        start_by_ns: when it must have been launched, absolute monotonic; None waits for ever.
        parameters: of the protocol, for what a version reads (a Python class); plain JSON values.
        traceparent: W3C trace context of the caller, or empty.
        protocol: by which it came: `rest`, `grpc`, `task`, or empty in library use.
    """

    id: RequestId
    model: str
    version: str | None = None
    inputs: Tensors = field(default_factory=dict)
    wanted: tuple[str, ...] = ()
    tenant: TenantId = LOCAL_TENANT
    priority: int = DEFAULT_PRIORITY
    arrived_ns: int = 0
    deadline_ns: int | None = None
    start_by_ns: int | None = None
    parameters: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)
    traceparent: str = ""
    protocol: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceTiming:
    """One clock from arrival to answer, absolute monotonic nanoseconds.

    Attributes:
        arrived_ns: at the gateway (or at the engine, in library use).
        queued_ns: in the run queue of the engine.
        launched_ns: the batch was launched.
        finished_ns: the launch was done and the results copied.
        launch: number of the launch in its worker, from 0.
        batched: requests that shared the launch.
        stream: index of the stream.
        worker: name of the worker, empty in library use.
    """

    arrived_ns: int = 0
    queued_ns: int = 0
    launched_ns: int = 0
    finished_ns: int = 0
    launch: int = 0
    batched: int = 1
    stream: int = 0
    worker: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceResult:
    """What a caller gets. `outputs` in the order of the model's outputs, or as wanted."""

    id: RequestId
    served_by: VersionRef
    outputs: Tensors
    timing: InferenceTiming
    cached: bool = False
