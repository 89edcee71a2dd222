"""`OrchestrationLoop`: the one thread that owns the run queue, the lanes and every live request.

    accepted --> queued --> running --> answered          (a pipeline: queued and running once for each stage)
                   |           |
                   +-----------+--> cancelled | expired | failed

Everything here except `start`, `join`, `post` and the facts runs on the orchestration thread; with `debug`
each entry point verifies that (requirements L4-10, L4-19, L4-20). Decisions are the core's; this module asks,
carries out and reports.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from plumbline.contracts.clock import Clock
from plumbline.engine.answers import Answers, missed, result_of, word_of
from plumbline.engine.intake import RETRY_AFTER_S, Intake
from plumbline.engine.lane_table import LaneTable
from plumbline.engine.lanes import Lane, LanePool, LaneReport
from plumbline.engine.loading import LoadedStage, LoadedVersion
from plumbline.engine.outcomes import (
    Completion,
    EngineFailed,
    EngineStopped,
    RequestCancelled,
)
from plumbline.engine.promises import PromiseDesk
from plumbline.engine.requests import AcceptedRequest, LaunchWork, Onward, StageOutcome, execution_request
from plumbline.engine.tracing import EngineTrace
from plumbline.errors import ExecutionError, PlumblineError, Recoverability
from plumbline.scheduling.admission.verdict import Accepted, Refused
from plumbline.scheduling.decisions import DecisionCore, Hold, Launch
from plumbline.scheduling.execution_limits import verify_execution_request
from plumbline.scheduling.policy import Key
from plumbline.scheduling.request import ExecutionRequest

__all__ = ["OWN_LANES", "OrchestrationLoop", "ProgressCell", "ThreadRoleBroken"]

HEARTBEAT_S = 0.1
"""Longest sleep, so that the step counter of a healthy loop never stands still for longer."""
OWN_LANES = 64
"""Most stages that may have a lane of their own at once."""

_log = logging.getLogger(__name__)


@dataclass(eq=False, kw_only=True)
class ThreadRoleBroken(ExecutionError):
    """A function of the orchestration loop was called on another thread (checked in debug mode)."""

    code = "execution.thread_role"
    owner = "engine"
    template = "{function} was called on thread {thread!r}, it belongs to the orchestration loop"

    function: str
    thread: str


class ProgressCell(Protocol):
    """Where the step counter is written: anything with `cell[0] = number`."""

    def __setitem__(self, index: int, value: int, /) -> None: ...


class OrchestrationLoop:
    """One life of the engine, from start to stop.

    Args:
        core: decides; owned by this loop from now on.
        intake: where requests and messages arrive.
        lanes: opens the lanes.
        clock: tells the time.
        trace: where trace points go.
        progress: gets the step counter; the counter itself is `steps`.
        steps: where the counter goes on.
        name: of the threads.
        on_failed: called once, on the orchestration thread, when a fatal failure ended the loop.
        debug: whether thread roles are verified.
        desk: makes and keeps promises; None: everything is best effort.
        told: see `Answers`.
    """

    def __init__(
        self, *, core: DecisionCore, intake: Intake, lanes: LanePool, clock: Clock, trace: EngineTrace,
        progress: ProgressCell | None, steps: int, name: str,
        on_failed: Callable[[PlumblineError], None], debug: bool, desk: PromiseDesk | None = None,
        told: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self._desk, self.watches_boundaries = desk, desk is not None
        self._core, self.intake, self._clock, self._trace = core, intake, clock, trace
        self._progress, self._on_failed, self._debug = progress, on_failed, debug
        self._lanes = LaneTable(lanes, self, name)
        self.answers = Answers(
            intake=intake, core=core, clock=clock, trace=trace, desk=desk, told=told
        )  # fmt: skip
        self._graphs: dict[str, LoadedStage] = {}
        self._busy: set[str] = set()
        self._works: dict[int, LaunchWork] = {}
        self._until_ns: int | None = None
        self._draining = self._ending = False
        self._thread = threading.Thread(target=self._run, name=f"{name} loop", daemon=True)
        self.steps = steps
        self.launches = 0
        self.failure: PlumblineError | None = None

    # -- other threads ---------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread; False when it still runs then."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    @property
    def is_current(self) -> bool:
        """Whether the caller is on the orchestration thread."""
        return threading.current_thread() is self._thread

    @property
    def oldest_launch_ns(self) -> int | None:
        """When the oldest launch that still runs began; None when nothing runs."""
        works = tuple(self._works.values())
        return min((work.launched_ns for work in works), default=None)

    @property
    def running(self) -> int:
        """Requests in launches."""
        return sum(len(work.requests) for work in tuple(self._works.values()))

    # -- messages: what other threads ask for, carried out here ----------------------------------------------

    def arrive(self, request: AcceptedRequest) -> None:
        """A request was accepted."""
        self._verify_thread("arrive")
        if self._ending:
            self._deliver(request, EngineStopped(retry_after_s=RETRY_AFTER_S))
        elif request.cancelled:
            self._deliver(request, RequestCancelled(request=request.call.id, launched=False))
        else:
            self._trace.submitted(request)
            if self._desk is None:
                self._enqueue(request)
            else:
                self._admit(self._desk, request)

    def cancel(self, request_id: str) -> None:
        """The caller does not want a request any more."""
        self._verify_thread("cancel")
        request = self.intake.alive.get(request_id)
        if request is None:
            return
        queued = self._core.cancel(request_id, self._clock.now_ns())
        if queued is not None:
            self._deliver(
                request, RequestCancelled(request=request.call.id, launched=request.launched_ns > 0)
            )
        else:
            self._lanes.call_attention()

    def install(self, version: LoadedVersion) -> None:
        """A version was opened: requests of it will come."""
        self._verify_thread("install")
        for stage in version.stages:
            self._graphs[stage.graph] = stage
        self._lanes.add(version)

    def retire(self, version: LoadedVersion) -> None:
        """No more requests of a version will come; say when the last one is answered."""
        self._verify_thread("retire")
        if not version.alive:
            self._forget(version)

    def answer(self, question: Callable[[PromiseDesk | None, OrchestrationLoop], None]) -> None:
        """Carry out what another thread wants to know of the promises."""
        self._verify_thread("answer")
        question(self._desk, self)

    def find_stage(self, graph: str) -> LoadedStage | None:
        """The loaded stage of this graph; the first one of a pipeline."""
        return self._graphs.get(graph) or self._graphs.get(f"{graph}/0")

    def drain(self, _: object = None) -> None:
        """End when everything that was accepted is answered."""
        self._draining = True

    def end(self, _: object = None) -> None:
        """End now: what waits is answered, what runs ends at its next boundary."""
        self._verify_thread("end")
        self._draining = self._ending = True
        now_ns = self._clock.now_ns()
        for request in tuple(self.intake.alive.values()):
            if self._core.cancel(request.call.id, now_ns) is not None:
                self._deliver(request, EngineStopped(retry_after_s=RETRY_AFTER_S))
        self._lanes.call_attention()

    # -- what lanes need (LaneControl) -----------------------------------------------------------------------

    def post(self, handle: Callable[[object], None], argument: object) -> None:
        """Let the orchestration thread call `handle(argument)`. On any thread."""
        self.intake.post(handle, argument)

    def poll(self) -> None:
        """Take every message that is there now; what comes meanwhile waits for the next turn."""
        self._count_step()
        self.intake.collect()
        for _ in range(self.intake.messages):
            handle, argument = self.intake.take()
            handle(argument)

    def at_boundary(self, work: LaunchWork, segment: int) -> bool | LaunchWork:
        """Whether a launch goes on between two segments, or makes room for a more urgent one first."""
        self._verify_thread("at_boundary")
        now_ns = self._clock.now_ns()
        self._core.boundary(work.number, segment, now_ns)
        self._expire()
        if self._ending or all(request.cancelled for request in work.requests):
            return False
        limit: Key | None = work.key
        if self._desk is not None:
            limit = self._desk.boundary(work, now_ns)
        if limit is not None and self._core.depth:
            chosen = self._core.select(work.lane, now_ns, busy=self._busy, above=limit)
            if isinstance(chosen, Launch):
                return self._make_work(chosen, nested=True)
        if self._desk is not None:
            self._desk.goes_on(work, now_ns)
        return True

    def finish(self, report: LaneReport) -> None:
        """A launch is over: give back its instance, then tell everyone."""
        self._verify_thread("finish")
        work, lane = report.work, report.lane
        now_ns = self._clock.now_ns()
        lane.busy = work.nested
        del self._works[work.number]
        work.stage.free.append(work.instance)
        if work.stage.graph in self._busy:
            self._busy.discard(work.stage.graph)
            self._lanes.call_attention()
        pairs = list(zip(work.requests, report.outcomes, strict=True))
        words = {request.call.id: word_of(outcome) for request, outcome in pairs}
        self._core.finish(work.number, now_ns, words)
        if self._desk is not None:
            self._desk.segment_done(work, now_ns)
        self._trace.finished(work, now_ns)
        with self.answers.together():
            for request, outcome in pairs:
                self._conclude(work, request, outcome, now_ns)
        self._trace.released(work, self._clock)
        self._verify_not_fatal(report)

    # -- the loop --------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._lanes.open()
            while not self._is_over():
                self.poll()
                self._expire()
                if not self._dispatch() and not self.intake.messages and not self._is_over():
                    self.intake.sleep(self._sleep_s())
        except Exception as error:  # noqa: BLE001 - the engine loop: nothing may be left unanswered
            self._fail(error)
        finally:
            self._lanes.close(patient=self.failure is None)
            self.intake.close()

    def _is_over(self) -> bool:
        if not self._draining:
            return False
        return not self._works and (self._ending or not self.intake.alive) and not self.intake.messages

    def _dispatch(self) -> bool:
        """Start what can start; whether anything did."""
        started = False
        self._until_ns = None
        if not self._core.depth:
            return False
        for lane in self._lanes.idle():
            started |= self._start_next(lane)
        return started

    def _start_next(self, lane: Lane) -> bool:
        chosen = self._core.select(lane.index, self._clock.now_ns(), busy=self._busy)
        if chosen is None:
            return False
        if isinstance(chosen, Hold):
            if self._until_ns is None or chosen.until_ns < self._until_ns:
                self._until_ns = chosen.until_ns
            return False
        lane.busy = True
        lane.start(self._make_work(chosen))
        return True

    def _make_work(self, launch: Launch, *, nested: bool = False) -> LaunchWork:
        alive = self.intake.alive
        requests = [alive[request.id] for request in launch.requests]
        stage = self._graphs[launch.requests[0].graph]
        instance = stage.free.popleft()
        if not stage.free:
            self._busy.add(stage.graph)
        now_ns = self._clock.now_ns()
        work = LaunchWork(
            number=launch.number, lane=launch.stream, stage=stage, instance=instance, requests=requests,
            key=launch.key, launched_ns=now_ns, place=stage.place_of(instance), nested=nested,
        )  # fmt: skip
        for request in requests:
            request.launch, request.batched, request.stream = launch.number, len(requests), launch.stream
            request.launched_ns = request.launched_ns or now_ns
            if request.admitted.stage + 1 == len(request.version.stages):
                self.answers.stop_waiting(request)
        self._works[launch.number] = work
        self.launches += 1
        self._trace.chosen(launch, work, self._core)
        self._core.launched(launch.number, now_ns)
        if self._desk is not None:
            self._desk.started(work, now_ns)
        return work

    def _sleep_s(self) -> float:
        until_ns, expiry_ns = self._until_ns, self._core.next_expiry_ns
        if expiry_ns is not None and (until_ns is None or expiry_ns < until_ns):
            until_ns = expiry_ns
        if until_ns is None:
            return HEARTBEAT_S
        return min(HEARTBEAT_S, max((until_ns - self._clock.now_ns()) / 1e9, 1e-6))

    def _count_step(self) -> None:
        self.steps += 1
        if self._progress is not None:
            self._progress[0] = self.steps

    # -- queue -----------------------------------------------------------------------------------------------

    def _enqueue(self, request: AcceptedRequest) -> None:
        try:
            self._core.enter(request.execution, self._clock.now_ns())
        except PlumblineError as error:
            self._deliver(request, error)
            return
        if self._works:
            self._lanes.call_attention()

    def _enqueue_as(self, request: AcceptedRequest, execution: ExecutionRequest) -> None:
        try:
            request.execution = verify_execution_request(execution)
        except PlumblineError as error:
            self._deliver(request, error)
        else:
            self._enqueue(request)

    def _admit(self, desk: PromiseDesk, request: AcceptedRequest) -> None:
        """Promise, refuse, or queue behind all promised work."""
        now_ns = self._clock.now_ns()
        stage = request.version.stages[0]
        try:
            verdict = desk.ask(request, stage, now_ns)
        except PlumblineError as error:
            self._core.refuse(request.execution, now_ns, error.code, {"reason": error.message})
            self._deliver(request, error)
            return
        if isinstance(verdict, Refused):
            fields = {"reason": verdict.reason, "bound_ns": verdict.bound_ns, "limit_ns": verdict.limit_ns}
            self._core.refuse(request.execution, now_ns, verdict.kind.value, fields)
            self._deliver(request, verdict.error())
            return
        terms = desk.terms(request, verdict)
        if verdict is not None:
            self._record_promise(terms, verdict, now_ns)
        self._enqueue_as(request, terms)

    def _record_promise(self, execution: ExecutionRequest, verdict: Accepted, now_ns: int) -> None:
        """What is promised is the deadline: later promises may use what is left of it."""
        due_ns = verdict.bound_ns if execution.deadline_ns is None else execution.deadline_ns
        fields = {"exact": verdict.exact, "expected_end_ns": verdict.bound_ns}
        self._core.promise(execution, now_ns, due_ns - execution.arrived_ns, fields)

    def _expire(self) -> None:
        expiry_ns = self._core.next_expiry_ns
        if expiry_ns is None:
            return
        now_ns = self._clock.now_ns()
        if expiry_ns > now_ns:
            return
        for expired in self._core.expire(now_ns):
            request = self.intake.alive.get(expired.id)
            if request is not None:
                self._deliver(request, missed(request, expired, now_ns))

    # -- outcomes --------------------------------------------------------------------------------------------

    def _conclude(
        self, work: LaunchWork, request: AcceptedRequest, outcome: StageOutcome, now_ns: int
    ) -> None:
        if work.ended and self._ending and not request.cancelled:
            outcome = EngineStopped(retry_after_s=RETRY_AFTER_S)
        if isinstance(outcome, Onward):
            if self._ending or request.cancelled:
                stopped = EngineStopped(retry_after_s=RETRY_AFTER_S)
                cancelled = RequestCancelled(request=request.call.id, launched=True)
                self._deliver(request, cancelled if request.cancelled else stopped)
                return
            request.admitted = outcome.admitted
            execution = execution_request(request.call, request.version, outcome.admitted, request.queued_ns)
            terms = execution if self._desk is None else self._desk.onward(request, execution)
            self._enqueue_as(request, terms)
        elif isinstance(outcome, PlumblineError):
            self._deliver(request, outcome)
        else:
            self._deliver(request, result_of(request, outcome, now_ns))

    def _deliver(self, request: AcceptedRequest, outcome: Completion) -> None:
        if self.answers.deliver(request, outcome):
            self._forget(request.version)

    # -- versions and lanes ----------------------------------------------------------------------------------

    def _forget(self, version: LoadedVersion) -> None:
        for stage in version.stages:
            self._graphs.pop(stage.graph, None)
            self._busy.discard(stage.graph)
            if self._desk is not None:
                self._desk.forget_graph(stage.graph)
        self._lanes.remove(version)
        version.drained.set()

    # -- failure ---------------------------------------------------------------------------------------------

    def _verify_not_fatal(self, report: LaneReport) -> None:
        for outcome in report.outcomes:
            if isinstance(outcome, PlumblineError) and outcome.recoverability is Recoverability.FATAL:
                raise outcome

    def _fail(self, error: Exception) -> None:
        """Answer everyone, and end."""
        _log.error("the orchestration loop failed", exc_info=error)
        failure = EngineFailed(reason=f"{type(error).__name__}: {error}"[:300])
        failure.__cause__ = error
        self.failure = failure
        self.intake.shut()
        self._ending = True
        for request in tuple(self.intake.alive.values()):
            self._deliver(request, failure)
        self._on_failed(failure)

    def _verify_thread(self, function: str) -> None:
        if self._debug and not self.is_current:
            raise ThreadRoleBroken(function=function, thread=threading.current_thread().name)
