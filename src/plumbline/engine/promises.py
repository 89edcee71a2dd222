"""`PromiseDesk`: which requests get a promise, and what the promises of each lane are told.

A call asks for a promise when it has a deadline and its version is calibrated (with `promise = False` in its
parameters it does not), or when it names a registered task (`task = NAME` in its parameters). Everything else
is best effort: it runs only when no promised job waits, and its deadline limits when it may still start.

What the exact tests assume of a stream, and who provides it (see `StreamPromises`):

* the first promised job runs: the policy orders by deadline or period, best effort has neither, and promised
  jobs never wait for company;
* it finds an instance: a graph with D tasks that may be interrupted has at least D + 2 instances (one for
  each of their jobs, one for best effort, one for the job that starts); once promises are made to a graph
  with fewer it is never interrupted, so its promised jobs count as one piece, and its best-effort launches
  must be no longer than the bound of best effort;
* one stream: the version is bound to a lane, or there is only one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from plumbline.contracts.inference import InferenceCall
from plumbline.engine.loading import LoadedStage
from plumbline.engine.requests import AcceptedRequest, LaunchWork
from plumbline.errors import PolicyError
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


@dataclass(eq=False, kw_only=True)
class PromiseImpossible(PolicyError):
    """A promise was asked for by name, and this engine cannot give one to such work."""

    code = "policy.promise_impossible"
    http_status = 409
    owner = "engine"
    template = "no promise for {subject!r}: {reason}"

    subject: str
    reason: str


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
        self._best_effort_ns = best_effort_segment_ns
        self._lanes = [
            StreamPromises(policy, best_effort_segment_ns=best_effort_segment_ns, stream=index)
            for index in range(lanes)
        ]
        self._tasks: dict[str, tuple[int, PeriodicTask]] = {}
        self._promised: dict[str, int] = {}
        self._interruptible: Counter[str] = Counter()
        self._promising: set[str] = set()

    # -- asking ----------------------------------------------------------------------------------------------

    def register(self, task: PeriodicTask, stage: LoadedStage, now_ns: int) -> Verdict:
        """Promise something to every job of a task, or say why not.

        Raises:
            PromiseImpossible: this engine can promise nothing to its graph.
            PromiseUnknown: a task of this name is registered.
        """
        stream = self._stream_of(task.name, stage, task.cost_ns)
        divisible = not task.indivisible and len(stage.instances) >= self._interruptible[stage.graph] + 3
        verdict = self._lanes[stream].register_task(replace(task, indivisible=not divisible), now_ns)
        if verdict.accepted:
            self._tasks[task.name] = stream, replace(task, indivisible=not divisible)
            self._interruptible[stage.graph] += divisible
        return verdict

    def remove(self, name: str) -> None:
        """Promise nothing to later jobs of a task.

        Raises:
            PromiseImpossible: there is no such task.
        """
        if name not in self._tasks:
            raise PromiseImpossible(subject=name, reason="there is no such task")
        stream, task = self._tasks.pop(name)
        self._lanes[stream].remove_task(name)
        self._interruptible[task.graph] -= not task.indivisible

    def forget_graph(self, graph: str) -> None:
        """A graph is unloaded, and its tasks with it."""
        for name in [name for name, (_, task) in self._tasks.items() if task.graph == graph]:
            self.remove(name)
        self._promising.discard(graph)

    def ask(self, request: AcceptedRequest, stage: LoadedStage, now_ns: int) -> Verdict | None:
        """The answer to a request that arrives; None for best effort.

        Raises:
            PromiseImpossible: it asks by name, and cannot get one.
            PromiseTermsRefused: its bounds make no sense.
        """
        call, segments_ns = request.call, _segments(request.execution)
        name = call.parameters.get("task")
        if name is not None:
            return self._release(str(name), call, stage, now_ns)
        wanted = call.parameters.get("promise")
        deadline_ns = call.deadline_ns
        if wanted is False or deadline_ns is None or not request.execution.cost_bound_ns:
            if wanted is True:
                raise PromiseImpossible(subject=call.id, reason="it has no deadline, or no calibrated cost")
            return None
        try:
            stream = self._stream_of(call.id, stage, sum(segments_ns))
        except PromiseImpossible:
            if wanted is True:
                raise
            return None
        job = OneShot(
            id=call.id, graph=stage.graph, segments_ns=segments_ns, arrived_ns=now_ns,
            deadline_ns=deadline_ns, priority=call.priority, period_ns=ONE_SHOT_PERIOD_NS, indivisible=True,
        )  # fmt: skip
        return self._noted(call.id, stream, self._lanes[stream].consider(job, now_ns))

    def terms(self, request: AcceptedRequest, verdict: Verdict | None) -> ExecutionRequest:
        """The request as the run queue may see it: promised work by its deadline or period and never held
        back for company, everything else behind it.
        """
        execution = request.execution
        if verdict is None:
            return best_effort(execution)
        task = self._tasks.get(str(request.call.parameters.get("task")))
        batch = execution.batch
        if batch is not None:
            batch = replace(batch, max_delay_ns=0)
        if task is None:
            return replace(execution, batch=batch, period_ns=ONE_SHOT_PERIOD_NS)
        due_ns = verdict.bound_ns
        return replace(
            execution, batch=batch, task=task[1].name, period_ns=task[1].period_ns, deadline_ns=due_ns
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
        stream = self._promised.pop(request_id, None)
        if stream is None:
            return None
        return self._lanes[stream].finished(request_id, now_ns, completed=completed)

    def limit(self, work: LaunchWork) -> Key | None:
        """What may run between two segments of a launch: keys below this; None for nothing."""
        if work.lane >= len(self._lanes):
            return work.key
        promised = any(request.call.id in self._promised for request in work.requests)
        if promised and not self._may_be_interrupted(work):
            return None
        if not promised and work.stage.graph in self._promising and self._has_few_instances(work.stage):
            return None
        return work.key if promised else work.key[:1]

    # -- inside ----------------------------------------------------------------------------------------------

    def _release(self, name: str, call: InferenceCall, stage: LoadedStage, now_ns: int) -> Verdict:
        found = self._tasks.get(name)
        if found is None or found[1].graph != stage.graph:
            reason = f"there is no task {name[:60]!r} of {stage.graph}"
            raise PromiseImpossible(subject=call.id, reason=reason)
        return self._noted(call.id, found[0], self._lanes[found[0]].release(name, call.id, now_ns))

    def _noted(self, request_id: str, stream: int, verdict: Verdict) -> Verdict:
        if verdict.accepted:
            self._promised[request_id] = stream
        return verdict

    def _stream_of(self, subject: str, stage: LoadedStage, cost_ns: int) -> int:
        """The lane of a stage's promises.

        Raises:
            PromiseImpossible: it has none.
        """
        if stage.own_lane or stage.is_part:
            reason = "stages of pipelines and Python classes get no promises"
            raise PromiseImpossible(subject=subject, reason=reason)
        if stage.stream is None and len(self._lanes) > 1:
            reason = f"{stage.graph} is bound to no stream, and there are {len(self._lanes)}"
            raise PromiseImpossible(subject=subject, reason=reason)
        first, few = stage.graph not in self._promising, self._has_few_instances(stage)
        self._promising.add(stage.graph)
        if first and few and not stage.free:
            reason = f"a launch of {stage.graph} runs that may be interrupted; ask again when it is over"
            raise PromiseImpossible(subject=subject, reason=reason)
        if few and cost_ns > self._best_effort_ns:
            reason = (
                f"best-effort launches of {stage.graph} take up to {cost_ns} ns, the bound of best effort is "
                f"{self._best_effort_ns}; with two instances more they could be interrupted"
            )
            raise PromiseImpossible(subject=subject, reason=reason)
        return stage.stream or 0

    def _has_few_instances(self, stage: LoadedStage) -> bool:
        return len(stage.instances) < self._interruptible[stage.graph] + 2

    def _subject(self, work: LaunchWork) -> str:
        """Whose segment it is: a promised job of the launch, or its head."""
        ids = [request.call.id for request in work.requests]
        return next((found for found in ids if found in self._promised), ids[0])

    def _may_be_interrupted(self, work: LaunchWork) -> bool:
        names: Sequence[str | None] = [request.execution.task for request in work.requests]
        found = [self._tasks.get(name) for name in names if name is not None]
        return bool(found) and all(task is not None and not task[1].indivisible for task in found)


def best_effort(execution: ExecutionRequest) -> ExecutionRequest:
    """A request that goes behind all promised ones; its deadline becomes the latest start."""
    limits = [limit for limit in (execution.start_by_ns, execution.deadline_ns) if limit is not None]
    return replace(
        execution, deadline_ns=None, start_by_ns=min(limits, default=None), period_ns=None, task=None
    )


def _segments(execution: ExecutionRequest) -> tuple[int, ...]:
    return execution.segment_bounds_ns or (execution.cost_bound_ns,)
