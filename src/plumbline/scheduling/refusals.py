"""What the decision core refuses."""

from __future__ import annotations

from dataclasses import dataclass

from plumbline.errors import Recoverability, ResourceError, ValidationError

__all__ = [
    "DuplicateRequest",
    "ExecutionRequestRefused",
    "LaunchUnknown",
    "OutcomesIncomplete",
    "QueueFull",
    "StreamUnknown",
]


@dataclass(eq=False, kw_only=True)
class QueueFull(ResourceError):
    """The run queue is at its bound; nothing was queued."""

    code = "resource.queue_full"
    owner = "scheduling"
    recoverability = Recoverability.TRANSIENT
    template = "the run queue holds {depth} requests, its bound; try again in {retry_after_s:g} s"

    depth: int
    retry_after_s: float


@dataclass(eq=False, kw_only=True)
class DuplicateRequest(ValidationError):
    """A request with this id is queued or running."""

    code = "validation.duplicate_request"
    owner = "scheduling"
    http_status = 409
    template = "request {request_id!r} is already {state}"

    request_id: str
    state: str


@dataclass(eq=False, kw_only=True)
class ExecutionRequestRefused(ValidationError):
    """A request with a field that makes no sense."""

    code = "validation.execution_request"
    owner = "scheduling"
    template = "request {request_id!r}: {field} {value}: {reason}"

    request_id: str
    field: str
    value: str
    reason: str


@dataclass(eq=False, kw_only=True)
class StreamUnknown(ValidationError):
    """A stream index outside the pool."""

    code = "validation.stream"
    owner = "scheduling"
    template = "stream {stream}: there are {streams}, counted from 0"

    stream: int
    streams: int


@dataclass(eq=False, kw_only=True)
class LaunchUnknown(ValidationError):
    """A launch that was never made, or is over."""

    code = "validation.launch"
    owner = "scheduling"
    template = "launch {launch} is not running"

    launch: int


@dataclass(eq=False, kw_only=True)
class OutcomesIncomplete(ValidationError):
    """A launch was finished without an outcome for each of its requests, or with one for a stranger."""

    code = "validation.launch_outcomes"
    owner = "scheduling"
    template = "launch {launch} has other requests than its outcomes: {requests}"

    launch: int
    requests: str
