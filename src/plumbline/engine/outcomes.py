"""How a request can end: a result, or one of the typed outcomes below. Exactly one of them, exactly once."""

from __future__ import annotations

from dataclasses import dataclass

from plumbline.contracts.inference import InferenceResult
from plumbline.errors import (
    BackendError,
    ExecutionError,
    PlumblineError,
    Recoverability,
    ResourceError,
    ValidationError,
)
from plumbline.scheduling.refusals import DuplicateRequest, QueueFull

__all__ = [
    "Completion",
    "DeadlineMissed",
    "DuplicateRequest",
    "EngineFailed",
    "EngineStopped",
    "LaunchDefect",
    "QueueFull",
    "RequestCancelled",
    "VersionLoadedTwice",
    "VersionNotLoaded",
]

Completion = InferenceResult | PlumblineError
"""What a completion callback is given."""


@dataclass(eq=False, kw_only=True)
class EngineStopped(ResourceError):
    """The engine is stopped, or stops; the request did not run to its end."""

    code = "resource.engine_stopped"
    recoverability = Recoverability.TRANSIENT
    owner = "engine"
    template = "the engine is stopping or stopped; try again in {retry_after_s:.3f} s"

    retry_after_s: float


@dataclass(eq=False, kw_only=True)
class DeadlineMissed(ResourceError):
    """The request could not be launched in time, so it never ran.

    `limit` names which time passed: `deadline` or `start_by`. All times are absolute monotonic nanoseconds.
    """

    code = "resource.deadline_missed"
    http_status = 504
    owner = "engine"
    template = "request {request!r} was not launched before its {limit} passed; it waited {waited_ns} ns"

    request: str
    limit: str
    limit_ns: int
    arrived_ns: int
    expired_ns: int
    waited_ns: int


@dataclass(eq=False, kw_only=True)
class RequestCancelled(ExecutionError):
    """The caller cancelled the request. `launched` says whether it had begun to run."""

    code = "execution.request_cancelled"
    http_status = 499
    owner = "engine"
    template = "request {request!r} was cancelled"

    request: str
    launched: bool


@dataclass(eq=False, kw_only=True)
class LaunchDefect(ExecutionError):
    """A launch raised something that no session may raise: a defect of ours. The cause is chained."""

    code = "execution.launch_defect"
    owner = "engine"
    template = "a launch of {graph!r} failed by a defect of the runtime: {reason}"

    graph: str
    reason: str


@dataclass(eq=False, kw_only=True)
class EngineFailed(BackendError):
    """The engine ended by a fatal failure; the process that owns it must end."""

    code = "backend.engine_failed"
    recoverability = Recoverability.FATAL
    owner = "engine"
    template = "the engine failed and ended: {reason}"

    reason: str


@dataclass(eq=False, kw_only=True)
class VersionNotLoaded(ValidationError):
    """The version is not loaded in this engine, or is being unloaded."""

    code = "validation.version_not_loaded"
    http_status = 404
    owner = "engine"
    template = "version {version!r} is not loaded; loaded are: {loaded}"

    version: str
    loaded: str


@dataclass(eq=False, kw_only=True)
class VersionLoadedTwice(ValidationError):
    """The version is loaded already."""

    code = "validation.version_loaded_twice"
    http_status = 409
    owner = "engine"
    template = "version {version!r} is loaded already"

    version: str
