"""`PromiseDesk`: which requests get a promise, and what the promises of each lane are told.

A call asks for a promise when it has a deadline and its version is calibrated (with `promise = False` in its
parameters it does not), or when it names a registered task (`task = NAME` in its parameters). Everything else
is best effort: it runs only when no promised job waits, and its deadline limits when it may still start.

What the exact tests assume of a stream (see `StreamPromises`): the first promised job runs. The policy orders
by deadline or period, best effort has neither, and promised jobs never wait for company. That it finds an
instance, and one stream, is for `PromisePlaces` to say.

A pipeline is one job whose pieces are its stages: it waits for each with the deadline that it had, runs it in
a launch of its own, and a stage that runs is not interrupted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from plumbline.contracts.inference import InferenceCall
from plumbline.engine.loading import LoadedStage
from plumbline.engine.promise_places import PromiseImpossible, PromisePlaces
from plumbline.engine.requests import AcceptedRequest, LaunchWork
from plumbline.scheduling.admission.orders import GUARANTEED, Order, PolicyWithoutGuarantee, order_of
from plumbline.scheduling.admission.promises import Breach, StreamPromises
from plumbline.scheduling.admission.tasks import MAX_TIME_NS, OneShot, PeriodicTask
from plumbline.scheduling.admission.verdict import Verdict
from plumbline.scheduling.policy import Key
from plumbline.scheduling.request import ExecutionRequest

__all__ = ["PromiseDesk", "PromiseImpossible", "best_effort"]


ONE_SHOT_PERIOD_NS = MAX_TIME_NS
"""Period of a promised request that belongs to no task: behind all tasks, before all best effort, which has
none. Read by the rate-monotonic order only.
"""


@dataclass(frozen=True, slots=True)
class _Registered:
    """A task, where it is promised, and the first stage of its version."""

    stream: int
    task: PeriodicTask
    stage: LoadedStage


class PromiseDesk:
    """Promises of every lane. Owned by the orchestration loop.

    Args:
        policy: name of the policy of the run queue.
        lanes: how many there are.
        best_effort_segment_ns: bound of the longest piece of best-effort work between two boundaries.

    Raises:
        PolicyWithoutGuarantee: the policy cannot put promised work before all other work.
    """

    def __init__(self, policy: str, *, lanes: int, best_effort_segment_ns: int) -> None:
        if order_of(policy) is Order.PRIORITY:
            others = ", ".join(order for order in GUARANTEED if order is not Order.PRIORITY)
            raise PolicyWithoutGuarantee(policy=policy, guaranteed=others)
        self._places = PromisePlaces(
            order_of(policy), streams=lanes, best_effort_segment_ns=best_effort_segment_ns
        )
        self._lanes = [
            StreamPromises(policy, best_effort_segment_ns=best_effort_segment_ns, stream=index)
            for index in range(lanes)
        ]
        self._tasks: dict[str, _Registered] = {}
        self._promised: dict[str, int] = {}
        self._chained: dict[str, ExecutionRequest] = {}

    # -- asking ----------------------------------------------------------------------------------------------

    def register(self, task: PeriodicTask, stage: LoadedStage, now_ns: int) -> Verdict:
        """Promise something to every job of a task, or say why not.

        Raises:
            PromiseImpossible: this engine can promise nothing to its graph.
            PromiseUnknown: a task of this name is registered.
        """
        stage = stage.chain[0]
        stream = self._places.stream_of(task.name, stage, task.segments_ns)
        is_chain = len(stage.chain) > 1
        divisible = is_chain or (not task.indivisible and self._places.is_divisible(stage))
        promised = replace(task, graph=stage.graph, indivisible=not divisible)
        verdict = self._lanes[stream].register_task(promised, now_ns)
        if verdict.accepted:
            self._tasks[task.name] = _Registered(stream, promised, stage)
            self._places.count_task(stage, divisible)
        return verdict

    def remove(self, name: str) -> None:
        """Promise nothing to later jobs of a task.

        Raises:
            PromiseImpossible: there is no such task.
        """
        if name not in self._tasks:
            raise PromiseImpossible(subject=name, reason="there is no such task")
        found = self._tasks.pop(name)
        self._lanes[found.stream].remove_task(name)
        self._places.count_task(found.stage, -(not found.task.indivisible))

    def forget_graph(self, graph: str) -> None:
        """A graph is unloaded, and its tasks with it."""
        for name in [name for name, found in self._tasks.items() if found.task.graph == graph]:
            self.remove(name)
        self._places.forget(graph)

    def ask(self, request: AcceptedRequest, stage: LoadedStage, now_ns: int) -> Verdict | None:
        """The answer to a request that arrives; None for best effort.

        Raises:
            PromiseImpossible: it asks by name, and cannot get one.
            PromiseTermsRefused: its bounds make no sense.
        """
        call, pieces_ns = request.call, _pieces(request)
        name = call.parameters.get("task")
        if name is not None:
            return self._release(str(name), call, stage, now_ns)
        wanted = call.parameters.get("promise")
        deadline_ns = call.deadline_ns
        if wanted is False or deadline_ns is None or not pieces_ns:
            if wanted is True:
                uncalibrated = f"it has no deadline, or {stage.version} no calibrated cost"
                reason = self._places.why_never(stage) or uncalibrated
                raise PromiseImpossible(subject=call.id, reason=reason)
            return None
        try:
            stream = self._places.stream_of(call.id, stage, pieces_ns)
        except PromiseImpossible:
            if wanted is True:
                raise
            return None
        job = OneShot(
            id=call.id, graph=stage.graph, segments_ns=pieces_ns, arrived_ns=now_ns,
            deadline_ns=deadline_ns, priority=call.priority, period_ns=ONE_SHOT_PERIOD_NS,
            indivisible=len(stage.chain) == 1,
        )  # fmt: skip
        return self._noted(call.id, stream, self._lanes[stream].consider(job, now_ns))

    def terms(self, request: AcceptedRequest, verdict: Verdict | None) -> ExecutionRequest:
        """The request as the run queue may see it: promised work by its deadline or period and never held
        back for company, everything else behind it.
        """
        execution = request.execution
        if verdict is None:
            return best_effort(execution)
        found = self._tasks.get(str(request.call.parameters.get("task")))
        is_chain = len(request.version.stages) > 1
        batch = None if is_chain or execution.batch is None else replace(execution.batch, max_delay_ns=0)
        terms = replace(execution, batch=batch, period_ns=ONE_SHOT_PERIOD_NS)
        if found is not None:
            task = found.task
            terms = replace(terms, task=task.name, period_ns=task.period_ns, deadline_ns=verdict.bound_ns)
        if is_chain:
            self._chained[request.call.id] = terms
        return terms

    def onward(self, request: AcceptedRequest, execution: ExecutionRequest) -> ExecutionRequest:
        """The next stage of a pipeline as the run queue may see it: on the terms of the first, and alone."""
        terms = self._chained.get(request.call.id)
        if terms is None:
            return best_effort(execution)
        return replace(
            execution, batch=None, task=terms.task, period_ns=terms.period_ns, deadline_ns=terms.deadline_ns
        )

    # -- being told ------------------------------------------------------------------------------------------

    def started(self, work: LaunchWork, now_ns: int) -> None:
        """A segment of a launch begins."""
        if work.lane < len(self._lanes):
            self._lanes[work.lane].started(self._subject(work), now_ns)

    def segment_done(self, work: LaunchWork, now_ns: int) -> None:
        """A segment of a launch is over."""
        if work.lane < len(self._lanes):
            self._lanes[work.lane].segment_done(self._subject(work), now_ns)

    def finished(self, request_id: str, now_ns: int, *, completed: bool) -> Breach | None:
        """A request has its outcome; the breach, when a promise was broken."""
        self._chained.pop(request_id, None)
        stream = self._promised.pop(request_id, None)
        if stream is None:
            return None
        return self._lanes[stream].finished(request_id, now_ns, completed=completed)

    def boundary(self, work: LaunchWork, now_ns: int) -> Key | None:
        """A launch is between two segments: what may run there, keys below this; None for nothing."""
        if not self._is_one_piece(work):
            self.segment_done(work, now_ns)
        return self.limit(work)

    def goes_on(self, work: LaunchWork, now_ns: int) -> None:
        """A launch that was between two segments goes on."""
        if not self._is_one_piece(work):
            self.started(work, now_ns)

    def limit(self, work: LaunchWork) -> Key | None:
        """What may run between two segments of a launch: keys below this; None for nothing."""
        if work.lane >= len(self._lanes):
            return work.key
        promised = any(request.call.id in self._promised for request in work.requests)
        if promised and not self._may_be_interrupted(work):
            return None
        if not promised and self._places.keeps_stream(work.stage):
            return None
        return work.key if promised else work.key[:1]

    # -- inside ----------------------------------------------------------------------------------------------

    def _release(self, name: str, call: InferenceCall, stage: LoadedStage, now_ns: int) -> Verdict:
        found = self._tasks.get(name)
        if found is None or found.task.graph != stage.graph:
            reason = f"there is no task {name[:60]!r} of {stage.version}"
            raise PromiseImpossible(subject=call.id, reason=reason)
        stream = found.stream
        return self._noted(call.id, stream, self._lanes[stream].release(name, call.id, now_ns))

    def _noted(self, request_id: str, stream: int, verdict: Verdict) -> Verdict:
        if verdict.accepted:
            self._promised[request_id] = stream
        return verdict

    def _subject(self, work: LaunchWork) -> str:
        """Whose segment it is: a promised job of the launch, or its head."""
        ids = [request.call.id for request in work.requests]
        return next((found for found in ids if found in self._promised), ids[0])

    def _may_be_interrupted(self, work: LaunchWork) -> bool:
        if self._is_one_piece(work):
            return False
        names: Sequence[str | None] = [request.execution.task for request in work.requests]
        found = [self._tasks.get(name) for name in names if name is not None]
        return bool(found) and all(task is not None and not task.task.indivisible for task in found)

    def _is_one_piece(self, work: LaunchWork) -> bool:
        """Whether it is a promised stage of a pipeline."""
        return any(request.call.id in self._chained for request in work.requests)


def best_effort(execution: ExecutionRequest) -> ExecutionRequest:
    """A request that goes behind all promised ones; its deadline becomes the latest start."""
    limits = [limit for limit in (execution.start_by_ns, execution.deadline_ns) if limit is not None]
    return replace(
        execution, deadline_ns=None, start_by_ns=min(limits, default=None), period_ns=None, task=None
    )


def _pieces(request: AcceptedRequest) -> tuple[int, ...]:
    """Calibrated bounds: of each stage of a pipeline, else of each segment; empty for none."""
    if len(request.version.stages) > 1:
        return request.admitted.stage_bounds_ns
    execution = request.execution
    return execution.segment_bounds_ns or ((execution.cost_bound_ns,) if execution.cost_bound_ns else ())
