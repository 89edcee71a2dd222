"""`Answers`: the one outcome of each request, told once, whatever the callback does."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from plumbline.contracts.clock import Clock
from plumbline.contracts.inference import InferenceResult, InferenceTiming, Tensors
from plumbline.engine.intake import Intake
from plumbline.engine.outcomes import Completion, DeadlineMissed, RequestCancelled
from plumbline.engine.promises import PromiseDesk
from plumbline.engine.requests import AcceptedRequest, StageOutcome
from plumbline.engine.tracing import EngineTrace
from plumbline.errors import PlumblineError
from plumbline.scheduling.decisions import DecisionCore
from plumbline.scheduling.request import ExecutionRequest

__all__ = ["Answers", "missed", "result_of", "word_of"]

_log = logging.getLogger(__name__)


class Answers:
    """Takes requests out of the engine. Owned by the orchestration loop.

    Args:
        told: called when all answers of one moment were told: those of a launch together, others one by one.

    Attributes:
        callback_failures: completion callbacks that raised.
        breaches: promises that were not kept.
    """

    def __init__(
        self,
        *,
        intake: Intake,
        core: DecisionCore,
        clock: Clock,
        trace: EngineTrace,
        desk: PromiseDesk | None,
        told: Callable[[], None] = lambda: None,
    ) -> None:
        self._intake, self._core, self._clock, self._trace, self._desk = intake, core, clock, trace, desk
        self._told, self._together = told, False
        self.callback_failures = 0
        self.breaches = 0

    def deliver(self, request: AcceptedRequest, outcome: Completion) -> bool:
        """Tell a request its outcome; whether it was the last of a version that takes no more.

        The request is forgotten first, so its callback may submit another one of the same id.
        """
        self.stop_waiting(request)
        del self._intake.alive[request.call.id]
        if self._desk is not None:
            self._settle(self._desk, request, outcome)
        self._trace.completed(request, self._clock)
        try:
            request.on_done(outcome)
        except Exception:  # noqa: BLE001 - the engine loop: a callback stops nothing (L4-14)
            self.callback_failures += 1
            _log.exception("completion callback of request %s failed", request.call.id)
        if not self._together:
            self._told()
        version = request.version
        version.answered += 1
        return not version.open and not version.alive

    @contextmanager
    def together(self) -> Iterator[None]:
        """Answers given within are of one moment."""
        self._together = True
        try:
            yield
        finally:
            self._together = False
            self._told()

    def stop_waiting(self, request: AcceptedRequest) -> None:
        """A request does not count against the bound of the intake any more."""
        if request.waiting:
            request.waiting = False
            self._intake.left()

    def _settle(self, desk: PromiseDesk, request: AcceptedRequest, outcome: Completion) -> None:
        """Record a promise that was not kept. Who was cancelled or failed was promised nothing."""
        now_ns = self._clock.now_ns()
        counts = isinstance(outcome, InferenceResult | DeadlineMissed)
        breach = desk.finished(request.call.id, now_ns, completed=counts)
        if breach is not None:
            self.breaches += 1
            cause = "overrun" if breach.causes else "late"
            fields = {"causes": list(breach.causes), "deadline_ns": breach.deadline_ns}
            self._core.breach(request.execution, now_ns, now_ns - breach.deadline_ns, cause, fields)


def result_of(request: AcceptedRequest, outputs: Tensors, now_ns: int) -> InferenceResult:
    """Checked outputs with the times of the request."""
    call = request.call
    return InferenceResult(
        id=call.id,
        served_by=request.version.ref,
        outputs=outputs,
        timing=InferenceTiming(
            arrived_ns=call.arrived_ns or request.queued_ns, queued_ns=request.queued_ns,
            launched_ns=request.launched_ns, finished_ns=now_ns, launch=request.launch,
            batched=request.batched, stream=request.stream,
        ),
    )  # fmt: skip


def missed(request: AcceptedRequest, expired: ExecutionRequest, now_ns: int) -> DeadlineMissed:
    """The outcome of a request that left the queue because a limit passed: the first one that did."""
    call = request.call
    start_ns = call.start_by_ns if request.admitted.stage == 0 else None
    given = ((start_ns, "start_by"), (call.deadline_ns, "deadline"), (expired.deadline_ns, "deadline"))
    limit_ns, limit = min((moment_ns, name) for moment_ns, name in given if moment_ns is not None)
    return DeadlineMissed(
        request=expired.id, limit=limit, limit_ns=limit_ns, arrived_ns=request.queued_ns, expired_ns=now_ns,
        waited_ns=now_ns - request.queued_ns,
    )  # fmt: skip


def word_of(outcome: StageOutcome) -> str:
    """How a decision log calls an outcome."""
    if isinstance(outcome, RequestCancelled):
        return "cancelled"
    return "failed" if isinstance(outcome, PlumblineError) else "ok"
