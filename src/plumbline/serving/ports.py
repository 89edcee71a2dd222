"""What the gateway needs, by need. Routes know these ports and nothing behind them.

All methods are called on the event loop of the gateway; an `async` one may wait, a plain one never blocks.
All failures are `PlumblineError`; nothing else leaves a port.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from plumbline.contracts.identity import Principal
from plumbline.contracts.inference import InferenceCall, InferenceResult, VersionRef
from plumbline.contracts.models import ModelMetadata, VersionStatus
from plumbline.contracts.requests import RequestId, TenantId
from plumbline.contracts.versions import VersionSpec

__all__ = [
    "Authenticator",
    "DecisionService",
    "DeviceService",
    "EventService",
    "HealthService",
    "InferenceService",
    "ModelDirectory",
    "Permission",
    "PlanPicture",
    "PlanService",
    "RuntimeEvent",
    "TaskService",
    "TaskView",
    "VersionStatistics",
    "WorkerPool",
    "WorkerState",
    "WorkerStatus",
]


# -- inference and models ------------------------------------------------------------------------------------


class InferenceService(Protocol):
    """Answers calls: routes to a version and a worker, waits, and returns the one outcome."""

    async def infer(self, call: InferenceCall) -> InferenceResult:
        """The result.

        Raises:
            PlumblineError: the one typed outcome of a call that got no result. Cancelling the awaiting task
                cancels the request.
        """

    def cancel(self, request: RequestId) -> bool:
        """Ask for a request to be cancelled; False when no such request is alive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionStatistics:
    """Counts and total nanoseconds since the version became ready, as Triton's statistics extension has them.

    `batches` maps launch size (requests) to [launches, total compute_infer ns].
    """

    ref: VersionRef
    last_inference_wall_ns: int = 0
    inferences: int = 0
    executions: int = 0
    successes: int = 0
    success_ns: int = 0
    failures: int = 0
    failure_ns: int = 0
    queue_ns: int = 0
    compute_ns: int = 0
    cache_hits: int = 0
    cache_hit_ns: int = 0
    batches: Mapping[int, tuple[int, int]] = field(default_factory=dict)


class ModelDirectory(Protocol):
    """Which models there are, what they look like, and their life at this server."""

    def statuses(self) -> Sequence[VersionStatus]:
        """Every known version."""

    def metadata(self, model: str, version: str | None = None) -> ModelMetadata:
        """Of a ready version; without a version, of the one that an unpinned request would get.

        Raises:
            PlumblineError: unknown model (404) or version, not ready (a typed refusal with the state).
        """

    def is_ready(self, model: str, version: str | None = None) -> bool:
        """Whether requests are served now. An unknown model is not ready."""

    def statistics(self, model: str | None = None, version: str | None = None) -> Sequence[VersionStatistics]:
        """Of all, of a model, or of a version."""

    async def load(
        self, model: str, version: str | None = None, settings: Mapping[str, Any] | None = None
    ) -> None:
        """Prepare, load and warm up; returns when ready. Without a version, the newest that is not
        retired.
        """

    async def unload(self, model: str, version: str | None = None) -> None:
        """Drain and unload; returns when its memory is given back. Without a version, all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanPicture:
    """A memory plan drawn: a self-contained SVG, and its SHA-256 in hexadecimal digits."""

    svg: bytes
    digest: str


class PlanService(Protocol):
    """Memory plans of versions that this server prepared, drawn when they were prepared."""

    async def plans(self, ref: VersionRef, digest: str) -> Mapping[str, Any]:
        """The plans of all models of a version, as a JSON document of bounded size (schema `VersionPlans`).

        Args:
            ref: which version.
            digest: of its content as the directory knows it; plans of other content are not given.

        Raises:
            PlumblineError: it has no plan (404), or was not prepared yet (409).
        """

    async def picture(self, ref: VersionRef, digest: str, stage: str | None = None) -> PlanPicture:
        """One plan drawn.

        Args:
            ref: which version.
            digest: as for `plans`.
            stage: which model of a pipeline; needed where there are several.

        Raises:
            PlumblineError: as `plans`; the stage is not named or not there (400); the picture could not be
                drawn (404).
        """


# -- workers -------------------------------------------------------------------------------------------------


class WorkerState(StrEnum):
    """Life of a worker. `serving.workers` holds the transition table."""

    STARTING = "starting"
    READY = "ready"
    STALLED = "stalled"
    DRAINING = "draining"
    DEAD = "dead"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStatus:
    """A worker as the gateway sees it.

    Attributes:
        name: `w0`, `w1`, ...: a place; its generation counts the processes that have held it.
        generation: from 1; a late write of an older one is fenced.
        pid: of the process, 0 in library use.
        state: where in its life.
        queued: accepted and not launched, running: launched and not answered.
        steps: progress counter of its engine loop.
        versions: keys of loaded versions.
        memory_bytes: planned bytes of its loaded versions; budget_bytes: the most it may hold, None without
            limit.
        log_trouble: why its decisions are not recorded now, empty when they are.
        missed_decisions: records that its log has missed since it started.
    """

    name: str
    generation: int
    pid: int
    state: WorkerState
    queued: int = 0
    running: int = 0
    steps: int = 0
    versions: tuple[str, ...] = ()
    memory_bytes: int = 0
    budget_bytes: int | None = None
    log_trouble: str = ""
    missed_decisions: int = 0


class WorkerPool(Protocol):
    """Workers that load versions and run calls. Process workers and in-process workers pass one suite.

    It owns the journal of accepted calls: each gets exactly one outcome, whatever dies.
    """

    async def start(self) -> None:
        """Start the workers; returns when each is ready for `load`."""

    async def stop(self, *, drain: bool, timeout_s: float) -> None:
        """End: finish what was accepted (drain) or refuse it, then stop every worker."""

    async def load(self, spec: VersionSpec) -> ModelMetadata:
        """Load in every worker, now and in every one that comes later; returns after a real warm-up
        inference.

        Raises:
            PlumblineError: what the worker said, such as a memory budget with its numbers. Nothing stays
                loaded.
        """

    async def unload(self, ref: VersionRef) -> None:
        """Unload everywhere. Accepted calls of it are finished first."""

    async def infer(self, ref: VersionRef, call: InferenceCall, worker: str | None = None) -> InferenceResult:
        """Run a call on a loaded version, on a named worker or the one with the least accepted work.

        Raises:
            PlumblineError: the one outcome. Among them: intake full (transient), worker lost twice
                (permanent), deadline missed in the queue, cancelled.
        """

    def cancel(self, request: RequestId) -> bool:
        """Ask for a call to be cancelled; False when it is not alive."""

    def workers(self) -> Sequence[WorkerStatus]:
        """Every place, in order of name."""

    def sole_worker(self, ref: VersionRef) -> str | None:
        """The one worker to which calls of a version can go: name of the only place of its group, where it is
        ready and has the version; None when there is a choice to make, or nothing to choose. Asked for every
        request, so it is cheap.
        """

    def output(self, worker: str) -> str:
        """What the process in this place printed last: its own messages, and those of classes that it serves.
        Bounded; may name paths, so it is an operator's. Empty without a process of its own.

        Raises:
            PlumblineError: there is no such place (404).
        """

    async def scale(self, count: int) -> None:
        """Bring the number of workers to `count`; those that go are drained."""


# -- identity ------------------------------------------------------------------------------------------------


class Permission(StrEnum):
    """What a route asks for; `serving.identity.roles` says which role has which."""

    READ = "read"
    INFER = "infer"
    TASKS = "tasks"
    MODELS = "models"
    DEVICES = "devices"
    KEYS = "keys"
    METRICS = "metrics"


class Authenticator(Protocol):
    """Says who is asking, and what they may do, and how often."""

    async def authenticate(self, headers: Mapping[str, str]) -> Principal:
        """The principal of a request.

        Args:
            headers: lower-case names. `authorization: Bearer KEY` or `x-api-key: KEY`.

        Raises:
            PlumblineError: no key, unknown, revoked (401).
        """

    def authorise(self, principal: Principal, permission: Permission) -> None:
        """Raises a PolicyError (403) when no role of the principal has the permission."""

    def spend(self, principal: Principal) -> None:
        """Count one request. Raises a transient PlumblineError (429, with retry_after_s) above the rate."""


# -- tasks, events, devices, decisions -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskView:
    """A task as its tenant sees it; `document` is its JSON form (schema `TaskResponse`)."""

    id: str
    tenant: TenantId
    state: str
    document: Mapping[str, Any]
    created: bool = False


class TaskService(Protocol):
    """Durable work: accepted once, done once, readable after a restart."""

    async def submit(
        self,
        principal: Principal,
        request: Mapping[str, Any],
        task_id: str | None = None,
        traceparent: str = "",
    ) -> TaskView:
        """Accept a task. With a client's id: idempotent; another body under the same id is refused (409).
        `traceparent` is the W3C trace context of the caller; without one, a trace begins here.
        """

    async def read(self, principal: Principal, task_id: str) -> TaskView:
        """A task of the caller's tenant. Raises: unknown (404)."""

    async def list(
        self, principal: Principal, *, state: str | None, limit: int, cursor: str | None
    ) -> tuple[Sequence[TaskView], str | None]:
        """Newest first, with the cursor of the next page."""

    async def cancel(self, principal: Principal, task_id: str) -> TaskView:
        """Ask for the end of a task; a finished one is returned as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeEvent:
    """Something that happened, for those who watch.

    Attributes:
        sequence: grows by one for each event of this gateway; the resume cursor.
        kind: dotted, such as `task.succeeded`, `worker.replaced`, `model.ready`.
        subject: task id, worker name, model@version.
        tenant: who may see it; None: everyone with `read`.
        wall_ns: when.
        fields: names and numbers, never payloads.
    """

    sequence: int
    kind: str
    subject: str
    tenant: TenantId | None
    wall_ns: int
    fields: Mapping[str, Any] = field(default_factory=dict)


class EventService(Protocol):
    """The event bus: publish anywhere, subscribe with a cursor. Slow subscribers are dropped, never waited
    for.
    """

    def publish(self, kind: str, subject: str, tenant: TenantId | None = None, **fields: Any) -> None:
        """Tell everyone. Never blocks, thread-safe."""

    def subscribe(
        self,
        principal: Principal,
        *,
        after: int | None = None,
        kinds: Sequence[str] = (),
        subjects: Sequence[str] = (),
    ) -> AsyncIterator[RuntimeEvent]:
        """Events that the principal may see, in order; `after` resumes behind a cursor still in the history.

        Raises:
            PlumblineError: the cursor is older than the history; the subscriber fell too far behind.
        """


class DeviceService(Protocol):
    """Devices of this machine (requirement L4-33): JSON documents of schema `DeviceInfo`."""

    def devices(self) -> Sequence[Mapping[str, Any]]:
        """All, in a stable order."""

    def device(self, device_id: str) -> Mapping[str, Any]:
        """One, with live metrics. Raises: unknown (404)."""

    async def drain(self, device_id: str) -> Mapping[str, Any]:
        """Take no new work; returns its document when the work it had is done."""

    def resume(self, device_id: str) -> Mapping[str, Any]:
        """Take work again. Raises: unknown (404), not drained (409)."""

    def retire(self, device_id: str) -> Mapping[str, Any]:
        """The end of a drained or lost device. Raises: unknown (404), in use (409)."""


class DecisionService(Protocol):
    """Answers from decision logs alone."""

    async def explain(self, request: RequestId) -> Mapping[str, Any]:
        """Why a request ran when and where it did (routing and scheduling). Raises: unknown (404)."""

    async def timeline(self, last: int) -> Sequence[Mapping[str, Any]]:
        """The last launches for a picture: request, model, stream, worker, begin and end."""


class HealthService(Protocol):
    """Engine progress, not a flag."""

    def is_live(self) -> bool:
        """The gateway's loop turns."""

    def readiness(self) -> tuple[bool, Mapping[str, Any]]:
        """Whether a worker makes progress and every wanted version passed a real inference; with the
        reasons.
        """
