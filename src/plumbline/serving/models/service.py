"""`RoutedInference`: from a call to its one outcome: model, version, worker, result, counts.

This is on the way of every request, so a call of a model with one ready version costs a dictionary look-up
and one record, however many versions lie in the repository; candidates are weighed only where there is a
choice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from plumbline.contracts.clock import Clock
from plumbline.contracts.inference import InferenceCall, InferenceResult
from plumbline.contracts.records import Routing
from plumbline.contracts.requests import RequestId
from plumbline.errors import PlumblineError, Recoverability
from plumbline.scheduling.refusals import DuplicateRequest
from plumbline.serving.models.directory import Directory
from plumbline.serving.models.refusals import NoWorkerReady
from plumbline.serving.models.rollout import Outcome
from plumbline.serving.models.routing import (
    RouteDecision,
    RouteReason,
    decide_worker,
    request_draw,
)
from plumbline.serving.models.served import ServedModel, ServedVersion
from plumbline.serving.ports import WorkerPool, WorkerStatus

__all__ = ["RoutedInference"]


class RoutedInference:
    """Implements `serving.ports.InferenceService`. Owns the list of calls that are alive here.

    Args:
        directory: says which versions there are.
        pool: runs them.
        clock: one clock from arrival to answer.
        record: takes one `Routing` record for each call; must not block.
    """

    def __init__(
        self, directory: Directory, pool: WorkerPool, clock: Clock, *, record: Callable[[Routing], None]
    ) -> None:
        self._directory, self._pool, self._clock, self._record = directory, pool, clock, record
        self._alive: dict[str, int] = {}

    async def infer(self, call: InferenceCall) -> InferenceResult:
        """Route the call, run it, count it.

        Raises:
            ModelUnknown, VersionUnknown: there is no such version (404).
            VersionNotReady, VersionRetired: it does not serve (409).
            VersionLoading, NoWorkerReady: not yet (503, with `retry_after_s`).
            DuplicateRequest: a call of this id is alive (409).
            PlumblineError: what the pool says; the one outcome.
        """
        if call.id in self._alive:
            raise DuplicateRequest(request_id=call.id, state="in flight")
        started_ns = self._clock.now_ns()
        model = self._directory.model(call.model)
        version, worker = self._route(model, call, started_ns)
        counters = version.counters
        self._alive[call.id] = call.arrived_ns or started_ns
        try:
            result = await self._pool.infer(version.ref, call, worker)
        except PlumblineError as error:
            now_ns = self._clock.now_ns()
            counters.fail(started_ns=started_ns, now_ns=now_ns)
            self._record(_answered(call, now_ns, error))
            if model.window is not None and error.recoverability is not Recoverability.TRANSIENT:
                self._observe(model, version, failed=True, latency_ns=now_ns - started_ns)
            raise
        finally:
            del self._alive[call.id]
        now_ns = self._clock.now_ns()
        counters.succeed(call, result, started_ns=started_ns, now_ns=now_ns, wall_ns=self._clock.wall_ns())
        if model.window is not None:
            self._observe(model, version, failed=False, latency_ns=now_ns - started_ns)
        return result

    def cancel(self, request: RequestId) -> bool:
        """Ask for a call to be cancelled; False when it is not alive."""
        return request in self._alive and self._pool.cancel(request)

    def alive(self) -> int:
        """Calls without an outcome."""
        return len(self._alive)

    def oldest_age_ns(self) -> int:
        """Age of the oldest call without an outcome, 0 without any. For the autoscaler."""
        oldest_ns = next(iter(self._alive.values()), None)
        return 0 if oldest_ns is None else max(self._clock.now_ns() - oldest_ns, 0)

    # -- inside ----------------------------------------------------------------------------------------------

    def _route(
        self, model: ServedModel, call: InferenceCall, now_ns: int
    ) -> tuple[ServedVersion, str | None]:
        version = model.sole
        decision: RouteDecision | None = None
        draw = 1.0
        if version is None or (call.version is not None and call.version != version.ref.version):
            decision, draw = _decide(model, call)
            if decision.chosen is None:
                fields = {"draw": draw, **_asked(model, call)}
                self._record(_routing(call, now_ns, decision, "", (), fields))
                raise self._directory.refusal_of(model, decision, call.version)
            version = model.versions[decision.chosen.version]
        only = self._pool.sole_worker(version.ref)
        if only is not None:
            return self._sole_worker(call, now_ns, version, only, decision, draw)
        workers = self._pool.workers()
        choice = decide_worker(workers, version.key)
        chosen = f"{version.key}/{choice.chosen}" if choice.chosen is not None else ""
        rejected = tuple((f"{version.key}/{name}", reason) for name, reason in choice.rejected)
        self._record(_routing(call, now_ns, decision, chosen, rejected, {"draw": draw}))
        if choice.chosen is None:
            raise NoWorkerReady(workers=_states(workers))
        return version, choice.chosen

    def _sole_worker(
        self,
        call: InferenceCall,
        now_ns: int,
        version: ServedVersion,
        worker: str,
        decision: RouteDecision | None,
        draw: float,
    ) -> tuple[ServedVersion, str | None]:
        chosen = f"{version.key}/{worker}"
        if decision is None:
            record = Routing(now_ns, call.id, call.model, (chosen,), (), chosen, RouteReason.ONLY.value, {})
        else:
            record = _routing(call, now_ns, decision, chosen, (), {"draw": draw})
        self._record(record)
        return version, worker

    def _observe(self, model: ServedModel, version: ServedVersion, *, failed: bool, latency_ns: int) -> None:
        self._directory.canaries.observe(model, version, Outcome(failed=failed, latency_ns=latency_ns))


def _decide(model: ServedModel, call: InferenceCall) -> tuple[RouteDecision, float]:
    """The decision and the draw behind it; without a canary nothing is drawn, and the draw counts as 1."""
    canary = model.canary
    if canary is None:
        return model.decision(call.version), 1.0
    draw = request_draw(call.id, str(canary.canary))
    return model.decision(call.version, draw), draw


def _asked(model: ServedModel, call: InferenceCall) -> dict[str, Any]:
    """What a caller made up is not written down: a log holds names of the repository only (X-47)."""
    return {} if call.version is None or call.version in model.versions else {"asked": "unknown"}


def _answered(call: InferenceCall, now_ns: int, error: PlumblineError) -> Routing:
    """Also of what was refused before any queue: there is no other record of that."""
    fields: dict[str, Any] = {"code": error.code, "status": error.http_status}
    return Routing(now_ns, call.id, call.model, (), (), "", RouteReason.ANSWERED.value, fields)


def _routing(
    call: InferenceCall,
    now_ns: int,
    decision: RouteDecision | None,
    chosen: str,
    rejected_workers: tuple[tuple[str, str], ...],
    fields: dict[str, Any],
) -> Routing:
    """One record for both choices: versions that were rejected, then `version/worker` of the chosen one."""
    versions = () if decision is None else tuple((str(ref), reason) for ref, reason in decision.rejected)
    reason = RouteReason.ONLY if decision is None else decision.reason
    rejected = (*versions, *rejected_workers)
    candidates = tuple(name for name, _ in rejected) + ((chosen,) if chosen else ())
    return Routing(
        now_ns,
        call.id,
        call.model,
        candidates,
        rejected,
        chosen,
        reason.value,
        {"asked": call.version, **fields},
    )


def _states(workers: Sequence[WorkerStatus]) -> str:
    return ", ".join(f"{worker.name} {worker.state.value}" for worker in workers) or "none"
