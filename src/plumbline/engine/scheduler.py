"""`Scheduler`: the engine as its users see it. Load versions, submit calls, be called back once for each.

    main thread                                    orchestration thread                lanes
    load, submit, cancel, unload  --intake-->      decide, start, call back  <------>  run

Submission checks the call on the caller's thread and never waits for the device, for another request, or for
the loop. The engine retries nothing and drops nothing: whatever runs out is refused at once by a typed error,
and the caller decides (requirements L4-02..L4-04, L4-15, L4-23).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from typing import TypeVar

from plumbline.contracts.clock import Clock
from plumbline.contracts.inference import InferenceCall, VersionRef
from plumbline.contracts.records import Record
from plumbline.contracts.requests import RequestId, verify_request_id
from plumbline.engine.doorbell import Inlet, open_doorbell
from plumbline.engine.intake import RETRY_AFTER_S, Intake
from plumbline.engine.lanes import LanePool
from plumbline.engine.loading import LoadedVersion, loaded_names, open_version
from plumbline.engine.loop import OWN_LANES, OrchestrationLoop, ProgressCell
from plumbline.engine.memory import MemoryBudget
from plumbline.engine.outcomes import (
    Completion,
    DeadlineMissed,
    EngineStopped,
    VersionLoadedTwice,
    VersionNotLoaded,
)
from plumbline.engine.promises import PromiseDesk, PromiseImpossible
from plumbline.engine.requests import AcceptedRequest, execution_request
from plumbline.engine.session import Session
from plumbline.engine.status import EngineRunning, EngineStatus, EngineStopTimeout, WrongThread
from plumbline.engine.tracing import EngineTrace
from plumbline.errors import PlumblineError
from plumbline.scheduling.admission.tasks import PeriodicTask
from plumbline.scheduling.admission.verdict import Verdict
from plumbline.scheduling.decisions import DecisionCore
from plumbline.scheduling.execution_limits import verify_execution_request
from plumbline.scheduling.policy import SchedulingPolicy
from plumbline.scheduling.recording import DecisionRecorder, Journal
from plumbline.scheduling.refusals import StreamUnknown
from plumbline.telemetry.sinks import NULL_SINK, TraceSink

T = TypeVar("T")

LOOK_AGAIN_S = 0.1
"""How often a caller that waits for the last answer looks whether the engine ended meanwhile."""

__all__ = ["EngineRunning", "EngineStatus", "EngineStopTimeout", "Scheduler", "WrongThread"]


class Scheduler:
    """Owns loaded versions, the memory budget, and one orchestration loop between `start` and `stop`.

    Args:
        policy: orders the queue. The engine owns its state; every `start` begins with the state it has now.
        streams: the lanes that launches run on.
        clock: tells the time.
        capacity: most requests accepted and not launched.
        record: gets every decision record, in order, on the orchestration thread.
        journal: gets them encoded, with a snapshot wherever a segment begins (a decision log).
        best_effort_segment_ns: with a number, requests with deadlines are promised or refused
            (`engine.promises`), and no piece of best-effort work between two boundaries takes longer than
            this; None: no promises are made.
        budget_bytes: most bytes that all versions may plan together; None for no limit.
        sink: where trace points go.
        progress: gets the step counter (`progress[0] = steps`).
        on_failed: called once, on the orchestration thread, after a fatal failure answered everyone.
        debug: verify thread roles.
        name: of the threads.
        inlet: where calls arrive that the orchestration thread itself takes in and submits.
    """

    def __init__(
        self, *, policy: SchedulingPolicy, streams: LanePool, clock: Clock,
        capacity: int = 1024, record: Callable[[Record], None] | None = None,
        journal: Journal | None = None,
        best_effort_segment_ns: int | None = None,
        budget_bytes: int | None = None, sink: TraceSink = NULL_SINK, progress: ProgressCell | None = None,
        on_failed: Callable[[PlumblineError], None] = lambda failure: None, debug: bool = False,
        name: str = "plumbline engine", inlet: Inlet | None = None,
    ) -> None:  # fmt: skip
        self._inlet = inlet
        self._policy, self._streams, self._clock, self._capacity = policy, streams, clock, capacity
        self._record, self._trace, self._progress = record, EngineTrace(sink), progress
        self._journal, self._best_effort_ns = journal, best_effort_segment_ns
        self._open_desk()
        self._first_policy_state = policy.state()
        self._on_failed, self._debug, self._name = on_failed, debug, name
        self._told: Callable[[], None] = _nothing
        self._budget = MemoryBudget(budget_bytes)
        self._versions: dict[VersionRef, LoadedVersion] = {}
        self._life = threading.Lock()
        self._intake = Intake(capacity)
        self._loop: OrchestrationLoop | None = None
        self._steps = 0
        self._failure: PlumblineError | None = None

    def when_told(self, told: Callable[[], None]) -> None:
        """Have this called, on the orchestration thread, after the completion callbacks of one moment: once
        for all requests of a launch, so that their outcomes can travel together. It must not raise.
        """
        self._told = told

    # -- life ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the orchestration thread; requests are taken from now on. Works again after `stop`.

        Raises:
            EngineRunning: it runs.
        """
        with self._life:
            if self._loop is not None and self._loop.is_alive:
                raise EngineRunning()
            self._failure = None
            self._intake = Intake(self._capacity, open_doorbell(self._inlet))
            self._policy.restore(self._first_policy_state)
            core = DecisionCore(
                policy=self._policy, capacity=self._capacity + OWN_LANES,
                streams=self._streams.size + OWN_LANES, record=self._record,
            )  # fmt: skip
            if self._journal is not None:
                log = DecisionRecorder(core, self._journal)
                core.record = log.record if self._record is None else _both(log.record, self._record)
            self._loop = OrchestrationLoop(
                core=core, intake=self._intake, lanes=self._streams, clock=self._clock, trace=self._trace,
                progress=self._progress, steps=self._steps, name=self._name, on_failed=self._on_failed,
                debug=self._debug, desk=self._open_desk(), told=lambda: self._told(),
            )  # fmt: skip
            for version in self._versions.values():
                self._intake.post(self._loop.install, version)
            self._intake.open()
            self._loop.start()

    def stop(self, *, drain: bool, timeout_s: float) -> None:
        """Take no more requests, and end the thread.

        Args:
            drain: finish what was accepted; otherwise what waits is answered with `EngineStopped` and what
                runs ends at its next segment boundary, with the same answer.
            timeout_s: a drain that takes longer becomes a stop without drain, with as much time again.

        Raises:
            EngineStopTimeout: a launch did not return.
            WrongThread: called from a completion callback.
        """
        with self._life:
            loop = self._loop
            if loop is None:
                return
            self._verify_outside("stop", loop)
            self._intake.shut()
            self._intake.post(loop.drain if drain else loop.end, None)
            ended = loop.join(timeout_s)
            if not ended and drain:
                self._intake.post(loop.end, None)
                ended = loop.join(timeout_s)
            self._steps = loop.steps
            if not ended:
                raise EngineStopTimeout(timeout_s=timeout_s)
            self._failure, self._loop = loop.failure, None

    def close(self) -> None:
        """Stop without drain, and close every version. Closing twice is harmless."""
        self.stop(drain=False, timeout_s=10.0)
        for ref in tuple(self._versions):
            self.unload(ref)

    # -- versions --------------------------------------------------------------------------------------------

    def load(
        self, ref: VersionRef, session: Session, *, instances: int = 1, stream: int | None = None
    ) -> None:
        """Load a version: set its plan aside, open its instances, and take requests for it.

        The session's `metadata.memory_bytes` is its plan for `instances` instances. On success the scheduler
        owns the session; on failure the caller still does.

        Args:
            ref: under which it is asked for.
            session: what runs; a session with `stages` is scheduled stage by stage.
            instances: launches that may go on at once, of each stage.
            stream: the lane that its launches are bound to; None for any.

        Raises:
            VersionLoadedTwice: it is loaded.
            StreamUnknown, LanesExhausted: there is no such lane, or none left.
            MemoryBudgetRefused: with the numbers, before anything is opened.
            PlumblineError: what an instance raised.
        """
        with self._life:
            if ref in self._versions:
                raise VersionLoadedTwice(version=str(ref))
            if stream is not None and not 0 <= stream < self._streams.size:
                raise StreamUnknown(stream=stream, streams=self._streams.size)
            self._budget.reserve(ref, session.metadata.memory_bytes)
            try:
                version = open_version(
                    ref, session, instances=instances, stream=stream, own_streams=self._free_own_streams()
                )
            except BaseException:
                self._budget.release(ref)
                raise
            if self._loop is not None:
                self._intake.post(self._loop.install, version)
            self._versions[ref] = version

    def unload(self, ref: VersionRef) -> None:
        """Take no more requests for a version, finish those that were accepted, and close it.

        Raises:
            VersionNotLoaded: it is not loaded.
            WrongThread: called from a completion callback.
        """
        with self._life:
            version, loop = self._find(ref), self._loop
            if loop is not None:
                self._verify_outside("unload", loop)
            self._intake.shut_version(version)
            if loop is not None:
                self._intake.post(loop.retire, version)
        while loop is not None and loop.is_alive and not version.drained.wait(LOOK_AGAIN_S):
            continue
        with self._life:
            del self._versions[ref]
            try:
                version.close()
            finally:
                self._budget.release(ref)

    # -- requests --------------------------------------------------------------------------------------------

    def submit(
        self, ref: VersionRef, call: InferenceCall, on_done: Callable[[Completion], None]
    ) -> RequestId:
        """Accept a call. Returns at once; `on_done` is called exactly once, on the orchestration thread.

        The arrays of the call are read until then; the caller leaves them as they are.

        Raises:
            VersionNotLoaded, RequestIdRefused, OutputUnknown, ExecutionRequestRefused, PriorityRefused: the
                call is wrong, or names what is not there; so are its inputs, by the session's own errors.
            DeadlineMissed: its deadline or start limit has passed already.
            PromiseImpossible: it asks for a promise, and this engine makes none.
            QueueFull, DuplicateRequest, EngineStopped: not accepted; nothing was kept.
        """
        version = self._find(ref)
        verify_request_id(call.id)
        if self._best_effort_ns is None and call.parameters.get("promise") is True:
            raise PromiseImpossible(subject=call.id, reason="this engine makes no promises")
        if call.wanted:
            version.decoder.verify_wanted(call.wanted)
        admitted = version.session.admit(call.inputs, call.parameters, call.tenant)
        now_ns = self._clock.now_ns()
        _verify_in_time(call, now_ns)
        execution = verify_execution_request(execution_request(call, version, admitted, now_ns))
        request = AcceptedRequest(
            call=call, version=version, admitted=admitted, execution=execution, on_done=on_done,
            queued_ns=now_ns,
        )  # fmt: skip
        loop = self._loop
        if loop is None:
            raise EngineStopped(retry_after_s=RETRY_AFTER_S)
        loop.intake.offer(request, loop.arrive)
        return call.id

    def cancel(self, request_id: str) -> bool:
        """Ask for the end of a request: at once while it waits, at the next segment boundary when it runs.

        Returns:
            False when no such request is alive. True is no promise: it may just be finishing.
        """
        loop = self._loop
        if loop is None or not loop.intake.mark_cancelled(request_id):
            return False
        loop.intake.post(loop.cancel, request_id)
        return True

    # -- promises --------------------------------------------------------------------------------------------

    def register_task(self, task: PeriodicTask) -> Verdict:
        """Promise that each job of a periodic task ends in time; a call releases one with
        `parameters["task"] = task.name`. The task lasts until it is removed, its version is unloaded, or the
        engine stops.

        Returns:
            What admission answers: an acceptance, or a refusal with its reason and counter-example.

        Raises:
            PromiseImpossible: this engine makes no promises, or none to the graph of the task.
            VersionNotLoaded: `task.graph` is not loaded.
            EngineStopped: the engine does not run.
            WrongThread: called from a completion callback.
        """

        def register(desk: PromiseDesk, loop: OrchestrationLoop) -> Verdict:
            stage = loop.find_stage(task.graph)
            if stage is None:
                raise VersionNotLoaded(version=task.graph, loaded=loaded_names(self._versions))
            return desk.register(task, stage, self._clock.now_ns())

        return self._ask(f"task {task.name}", register)

    def remove_task(self, name: str) -> None:
        """Promise nothing to later jobs of a task.

        Raises:
            PromiseImpossible: there is no such task.
            EngineStopped, WrongThread: as `register_task`.
        """
        self._ask(f"task {name}", lambda desk, loop: desk.remove(name))

    def _ask(self, subject: str, question: Callable[[PromiseDesk, OrchestrationLoop], T]) -> T:
        loop = self._loop
        if loop is None or not loop.is_alive:
            raise EngineStopped(retry_after_s=RETRY_AFTER_S)
        self._verify_outside("register_task", loop)
        answered: Future[T] = Future()

        def carry_out(desk: PromiseDesk | None, loop: OrchestrationLoop) -> None:
            try:
                if desk is None:
                    raise PromiseImpossible(subject=subject, reason="this engine makes no promises")
                answered.set_result(question(desk, loop))
            except PlumblineError as error:
                answered.set_exception(error)

        loop.intake.post(loop.answer, carry_out)
        while loop.is_alive:
            with suppress(TimeoutError):
                return answered.result(LOOK_AGAIN_S)
        raise EngineStopped(retry_after_s=RETRY_AFTER_S)

    def _open_desk(self) -> PromiseDesk | None:
        if self._best_effort_ns is None:
            return None
        return PromiseDesk(
            self._policy.name, lanes=self._streams.size, best_effort_segment_ns=self._best_effort_ns
        )

    # -- facts -----------------------------------------------------------------------------------------------

    @property
    def steps(self) -> int:
        """The progress counter: it grows by turns of the loop and by segment boundaries."""
        return self._steps if self._loop is None else self._loop.steps

    @property
    def failed(self) -> PlumblineError | None:
        """The failure that ended the engine by itself; its process should end (requirement X-35)."""
        return self._failure if self._loop is None else self._loop.failure

    def status(self) -> EngineStatus:
        """The engine now."""
        loop, failure = self._loop, self.failed
        return EngineStatus(
            running_loop=loop is not None and loop.is_alive,
            versions=self._budget.by_version(),
            queued=self._intake.waiting,
            running=0 if loop is None else loop.running,
            launches=0 if loop is None else loop.launches,
            steps=self.steps,
            oldest_launch_ns=None if loop is None else loop.oldest_launch_ns,
            memory_bytes=self._budget.used_bytes,
            budget_bytes=self._budget.budget_bytes,
            callback_failures=0 if loop is None else loop.answers.callback_failures,
            breaches=0 if loop is None else loop.answers.breaches,
            failed="" if failure is None else failure.message,
        )

    def _find(self, ref: VersionRef) -> LoadedVersion:
        version = self._versions.get(ref)
        if version is None or not version.open:
            raise VersionNotLoaded(version=str(ref), loaded=loaded_names(self._versions))
        return version

    def _free_own_streams(self) -> Iterator[int]:
        taken = {stage.stream for version in self._versions.values() for stage in version.stages}
        first = self._streams.size
        return iter([number for number in range(first, first + OWN_LANES) if number not in taken])

    def _verify_outside(self, function: str, loop: OrchestrationLoop) -> None:
        if loop.is_current:
            raise WrongThread(function=function)


def _both(first: Callable[[Record], None], second: Callable[[Record], None]) -> Callable[[Record], None]:
    def record(entry: Record) -> None:
        first(entry)
        second(entry)

    return record


def _verify_in_time(call: InferenceCall, now_ns: int) -> None:
    for limit, moment_ns in (("deadline", call.deadline_ns), ("start_by", call.start_by_ns)):
        if isinstance(moment_ns, int) and 0 < moment_ns <= now_ns:
            raise DeadlineMissed(
                request=call.id, limit=limit, limit_ns=moment_ns, arrived_ns=now_ns, expired_ns=now_ns,
                waited_ns=0,
            )  # fmt: skip


def _nothing() -> None:
    """Nobody waits for answers that travel together."""
