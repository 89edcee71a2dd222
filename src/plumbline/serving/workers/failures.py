"""What workers and their pool refuse or fail with.

A refusal comes before a call is accepted; a failure is the one outcome of a call that was.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from plumbline.errors import (
    BackendError,
    ErrorClass,
    Recoverability,
    ResourceError,
    SideEffect,
    ValidationError,
)

__all__ = [
    "CallRefused",
    "CallTooLarge",
    "IntakeFull",
    "LoadLostTwice",
    "LoadOutOfMemory",
    "NoWorkerReady",
    "OutcomeRefused",
    "PoolDegraded",
    "PoolStopped",
    "ProtocolViolated",
    "ScaleRefused",
    "TensorRefused",
    "VersionNotBack",
    "WorkerBroken",
    "WorkerLostTwice",
    "WorkerNotStarted",
    "WorkerReported",
    "WorkerUnknown",
]


@dataclass(eq=False, kw_only=True)
class IntakeFull(ResourceError):
    """Every worker that may take the call has as much accepted work as it may hold."""

    code = "resource.workers_intake_full"
    owner = "serving.workers"
    template = "{what}: {used} of {limit} in use"
    recoverability = Recoverability.TRANSIENT
    http_status = 503

    what: str
    used: int
    limit: int
    retry_after_s: float


@dataclass(eq=False, kw_only=True)
class NoWorkerReady(ResourceError):
    """No worker is ready for the call now, for instance because one is being replaced."""

    code = "resource.workers_none_ready"
    owner = "serving.workers"
    template = "no worker is ready: {states}"
    recoverability = Recoverability.TRANSIENT

    states: str
    retry_after_s: float


@dataclass(eq=False, kw_only=True)
class PoolDegraded(BackendError):
    """Workers die faster than they become ready; starts go on at the slowest rate only."""

    code = "backend.workers_degraded"
    owner = "serving.workers"
    template = "{deaths} workers died in a row before they served anything, the last with {reason}"
    recoverability = Recoverability.TRANSIENT
    http_status = 503

    deaths: int
    reason: str
    retry_after_s: float


@dataclass(eq=False, kw_only=True)
class VersionNotBack(BackendError):
    """A version was loaded, and its worker's replacements cannot load it. Others serve meanwhile; it is tried
    again, ever more rarely.
    """

    code = "backend.workers_version_not_back"
    owner = "serving.workers"
    template = "version {version} could not be loaded again, {tries} times, the last with {reason}"
    recoverability = Recoverability.TRANSIENT
    http_status = 503

    version: str
    tries: int
    reason: str
    retry_after_s: float


@dataclass(eq=False, kw_only=True)
class PoolStopped(ResourceError):
    """The pool is stopping or stopped and takes nothing more."""

    code = "resource.workers_stopped"
    owner = "serving.workers"
    template = "the workers are stopping"
    recoverability = Recoverability.TRANSIENT

    retry_after_s: float = 1.0


@dataclass(eq=False, kw_only=True)
class WorkerUnknown(ValidationError):
    """A worker is named that does not exist."""

    code = "validation.workers_unknown"
    owner = "serving.workers"
    template = "no worker named {worker}; there are {known}"
    http_status = 404

    worker: str
    known: str


@dataclass(eq=False, kw_only=True)
class TensorRefused(ValidationError):
    """A tensor that cannot cross to a worker."""

    code = "validation.workers_tensor"
    owner = "serving.workers"
    template = "tensor {tensor}: {reason}"

    tensor: str
    reason: str


@dataclass(eq=False, kw_only=True)
class CallRefused(ValidationError):
    """A call that cannot be sent to a worker as it is."""

    code = "validation.workers_call"
    owner = "serving.workers"
    template = "request {request}: {reason}"

    request: str
    reason: str


@dataclass(eq=False, kw_only=True)
class ScaleRefused(ValidationError):
    """A number of workers that this pool cannot have."""

    code = "validation.workers_scale"
    owner = "serving.workers"
    template = "{count} workers: from 1 to {limit} are possible"

    count: int
    limit: int


@dataclass(eq=False, kw_only=True)
class CallTooLarge(ValidationError):
    """More bytes than one call may bring to a worker or get from it."""

    code = "validation.workers_call_too_large"
    owner = "serving.workers"
    template = "{what} of {size_bytes} bytes, at most {limit_bytes}"
    http_status = 413

    what: str
    size_bytes: int
    limit_bytes: int


@dataclass(eq=False, kw_only=True)
class WorkerLostTwice(BackendError):
    """Two workers died with this call in hand. It is not tried on a third."""

    code = "backend.workers_lost_twice"
    owner = "serving.workers"
    template = "request {request}: two workers ended while they had it, the last with {reason}"

    request: str
    reason: str


@dataclass(eq=False, kw_only=True)
class LoadLostTwice(BackendError):
    """Two workers died while they loaded this version."""

    code = "backend.workers_load_lost_twice"
    owner = "serving.workers"
    template = "version {version}: two workers ended while they loaded it, the last with {reason}"

    version: str
    reason: str


@dataclass(eq=False, kw_only=True)
class LoadOutOfMemory(ResourceError):
    """The system gave a worker less memory than a version needs. Nothing of it stays loaded."""

    code = "resource.workers_load_memory"
    owner = "serving.workers"
    template = (
        "version {version}: memory ran out while it was loaded, with {planned_bytes} bytes by plan: {reason}"
    )

    version: str
    planned_bytes: int
    reason: str


@dataclass(eq=False, kw_only=True)
class WorkerNotStarted(BackendError):
    """A worker process did not come up."""

    code = "backend.workers_not_started"
    owner = "serving.workers"
    template = "worker {worker} did not start: {reason}"
    http_status = 503

    worker: str
    reason: str


@dataclass(eq=False, kw_only=True)
class WorkerBroken(BackendError):
    """Something in a worker failed that is not a `PlumblineError`: our bug, or one of a user's class."""

    code = "backend.workers_broken"
    owner = "serving.workers"
    template = "{what} failed in the worker with {kind}: {reason}"
    http_status = 500

    what: str
    kind: str
    reason: str


@dataclass(eq=False, kw_only=True)
class OutcomeRefused(BackendError):
    """A worker described a result that cannot be true; the worker is replaced."""

    code = "backend.workers_outcome_refused"
    owner = "serving.workers"
    template = "worker {worker} described an impossible result: {reason}"

    worker: str
    reason: str


@dataclass(eq=False, kw_only=True)
class ProtocolViolated(BackendError):
    """A worker sent what no worker may send; it is replaced."""

    code = "backend.workers_protocol"
    owner = "serving.workers"
    template = "{reason}"

    reason: str


@dataclass(eq=False, kw_only=True)
class WorkerReported(BackendError):
    """An error of a worker whose class this process does not know: it answers as that class would, under the
    title of that class.
    """

    code = "backend.workers_reported"
    owner = "serving.workers"
    template = "{text}"

    reported_code: str
    reported_class: str
    reported_recoverability: str
    reported_side_effect: str
    reported_owner: str
    reported_status: int
    text: str
    retry_after_s: float | None = None
    reported_title: str = ""

    def __post_init__(self) -> None:
        self.__dict__.update(
            code=self.reported_code,
            error_class=_member(ErrorClass, self.reported_class, ErrorClass.BACKEND),
            recoverability=_member(Recoverability, self.reported_recoverability, Recoverability.PERMANENT),
            side_effect=_member(SideEffect, self.reported_side_effect, SideEffect.UNKNOWN),
            owner=self.reported_owner,
            http_status=self.reported_status,
            __doc__=self.reported_title or self.__doc__,
        )
        super().__post_init__()


_Kind = TypeVar("_Kind", bound=StrEnum)


def _member(kind: type[_Kind], value: str, otherwise: _Kind) -> _Kind:
    return kind(value) if value in set(kind) else otherwise
