"""The trace points (requirements X-37..X-44): what happened, to which request, on which stream, when.

Timestamps are monotonic nanoseconds of the emitting process. A point carries names and numbers, never tensor
contents, prompts or paths.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestSubmitted:
    """A request entered the queue (X-37). `deadline_ns` is absolute, None without a deadline."""

    event: ClassVar[str] = "request_submitted"
    timestamp_ns: int
    request_id: str
    priority: int
    deadline_ns: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySelection:
    """A policy chose a request, and why (X-38)."""

    event: ClassVar[str] = "policy_selection"
    timestamp_ns: int
    request_id: str
    policy: str
    reason: str
    priority: int
    queue_depth: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamAllocation:
    """A request was bound to a stream (X-39)."""

    event: ClassVar[str] = "stream_allocation"
    timestamp_ns: int
    request_id: str
    stream_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelLaunch:
    """A launch was issued (X-40). `operator` names the segment; `duration_ns` is for inline runs."""

    event: ClassVar[str] = "kernel_launch"
    timestamp_ns: int
    request_id: str
    stream_id: str
    operator: str
    duration_ns: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRecord:
    """A stream recorded an event after the producer of `tensor` (X-41)."""

    event: ClassVar[str] = "event_record"
    timestamp_ns: int
    request_id: str
    stream_id: str
    event_id: str
    tensor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EventWait:
    """A stream waits for an event before the consumer of `tensor` (X-41)."""

    event: ClassVar[str] = "event_wait"
    timestamp_ns: int
    request_id: str
    stream_id: str
    event_id: str
    tensor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """A request is done (X-42). `latency_ns` counts from its submission."""

    event: ClassVar[str] = "completion"
    timestamp_ns: int
    request_id: str
    latency_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorAllocation:
    """A tensor took its planned place (X-43). `offset` is in bytes from the start of its memory space."""

    event: ClassVar[str] = "allocation"
    timestamp_ns: int
    tensor: str
    size_bytes: int
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorDeallocation:
    """A tensor left its place (X-44)."""

    event: ClassVar[str] = "deallocation"
    timestamp_ns: int
    tensor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionLoaded:
    """A version was loaded: what later points of its operators come from (L3-03). `revision` may be empty."""

    event: ClassVar[str] = "version_loaded"
    timestamp_ns: int
    version: str
    digest: str
    revision: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CompileViolation:
    """A version would have had to be compiled while requests were served; it was refused instead."""

    event: ClassVar[str] = "compile_while_serving"
    timestamp_ns: int
    version: str


TracePoint = (
    RequestSubmitted
    | PolicySelection
    | StreamAllocation
    | KernelLaunch
    | EventRecord
    | EventWait
    | Completion
    | TensorAllocation
    | TensorDeallocation
    | VersionLoaded
    | CompileViolation
)

POINT_CLASSES: dict[str, type[TracePoint]] = {
    kind.event: kind
    for kind in (
        RequestSubmitted,
        PolicySelection,
        StreamAllocation,
        KernelLaunch,
        EventRecord,
        EventWait,
        Completion,
        TensorAllocation,
        TensorDeallocation,
        VersionLoaded,
        CompileViolation,
    )
}


def to_document(point: TracePoint) -> dict[str, Any]:
    """The JSON object of one line: schema, event, timestamp (nanoseconds), then the fields of the point."""
    fields = {field.name: getattr(point, field.name) for field in dataclasses.fields(point)}
    timestamp = fields.pop("timestamp_ns")
    present = {name: value for name, value in fields.items() if value is not None}
    return {"schema": SCHEMA_VERSION, "event": point.event, "timestamp": timestamp, **present}
