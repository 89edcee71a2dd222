"""`VersionSpec`: everything a worker needs to load a version, and nothing it could guess."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from plumbline.contracts.inference import VersionRef
from plumbline.contracts.models import VersionKind

__all__ = ["VersionSettings", "VersionSpec"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionSettings:
    """What `version.toml` beside a version may set; every field has the value that an empty file means.

    Attributes:
        instances: launches of this version that may go on at once in one worker.
        threads: threads of one launch.
        symbols: bound of each symbolic dimension, by name.
        batch_symbol: the symbol along which requests are batched; None: the one that the compiler proves.
        max_batch: most rows of one launch; 0: the bound of the batch symbol.
        max_delay_ns: how long a launch may wait for company.
        separate_tenants: requests of different tenants never share a launch.
        max_segment_ns: longest segment wanted between preemption points; None for one segment.
        cost_bound_ns: calibrated bound of one launch (`plumb calibrate`); 0 for none.
        segment_bounds_ns: the same for each segment.
        memory_bytes: of a Python class: what one instance takes; None: what the class itself states.
        stream: index of the stream that its launches are bound to; None for any.
        group: of workers that it runs in; None: `classes` with a Python class in it, else `models`.
        max_run_s: longest that one `run` of its class may take; None: the limit of the workers.
    """

    instances: int = 1
    threads: int = 1
    symbols: Mapping[str, int] = field(default_factory=dict)
    batch_symbol: str | None = None
    max_batch: int = 0
    max_delay_ns: int = 0
    separate_tenants: bool = False
    max_segment_ns: int | None = None
    cost_bound_ns: int = 0
    segment_bounds_ns: tuple[int, ...] = ()
    memory_bytes: int | None = None
    stream: int | None = None
    group: str | None = None
    max_run_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionSpec:
    """A version on this machine, fetched and checked.

    Attributes:
        ref: which.
        kind: what it is made of.
        folder: private local copy whose content has `digest`.
        entry: file or folder inside `folder` that holds the model, pipeline or class (`.` for itself).
        digest: SHA-256 over its files.
        revision: of the source, as the repository states it.
        settings: how to load it.
        stages: of a pipeline: its stages, each a spec itself, in order.
    """

    ref: VersionRef
    kind: VersionKind
    folder: Path
    entry: str
    digest: str
    revision: str = ""
    settings: VersionSettings = field(default_factory=VersionSettings)
    stages: tuple[VersionSpec, ...] = ()
