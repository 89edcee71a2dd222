"""Fixed order (priority, rate monotonic): response time over the whole level-i active period, exact.

Jobs are sequences of non-preemptive segments. The analysed job is exposed to more urgent work until its last
segment begins; at most one segment of less urgent work blocks, and it began before, so one time unit of it
is over. All jobs of a level-i active period are looked at, because the first need not be the worst
(Bril, Lukkien, Verhaegh 2009; Yao, Buttazzo, Bertogna 2011). Tasks of equal rank are served in order of
arrival, so they interfere with what arrived no later than the analysed job; as for EDF (Spuri 1996) the job
is then tried at every release of an equal, which keeps the test exact with ties.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import lcm

from plumbline.scheduling.admission.demand import MAX_STEPS, AnalysisTooLong, utilisation
from plumbline.scheduling.admission.orders import Order, rank_of
from plumbline.scheduling.admission.tasks import PeriodicTask

__all__ = ["Level", "Response", "level_of", "worst_response"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """A task seen from its place in the order.

    Attributes:
        task: that is analysed.
        urgent: tasks that go before it.
        equals: tasks of its rank, itself among them.
        blocking_ns: what is left of the longest less urgent segment when the task arrives.
        blocker: the task of that segment; None for unpromised work, or where nothing blocks.
    """

    task: PeriodicTask
    urgent: tuple[PeriodicTask, ...]
    equals: tuple[PeriodicTask, ...]
    blocking_ns: int
    blocker: PeriodicTask | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """The worst response of a task, or the first one found to be too long.

    Attributes:
        response_ns: from release to end; where it is too long, a lower bound of it.
        released_ns: of that job, after the begin of the level-i active period.
    """

    response_ns: int
    released_ns: int


def level_of(
    task: PeriodicTask, tasks: Sequence[PeriodicTask], order: Order, *, blocking_ns: int = 0
) -> Level:
    """Who goes before, beside and behind `task`.

    Args:
        task: one of `tasks`.
        tasks: of the stream.
        order: priority or rate monotonic.
        blocking_ns: of work that is not among the tasks and may block any of them.
    """
    rank = rank_of(task, order)
    behind = [other for other in tasks if rank_of(other, order) > rank]
    blocker = max(behind, key=lambda other: max(other.pieces_ns), default=None)
    if blocker is None or max(blocker.pieces_ns) - 1 <= blocking_ns:
        blocker = None
    return Level(
        task=task,
        urgent=tuple(other for other in tasks if rank_of(other, order) < rank),
        equals=tuple(other for other in tasks if rank_of(other, order) == rank),
        blocking_ns=blocking_ns if blocker is None else max(blocker.pieces_ns) - 1,
        blocker=blocker,
    )


def worst_response(level: Level) -> Response:
    """The longest response of any job of the task; stops at the first that misses its deadline.

    Raises:
        AnalysisTooLong: it would take too many steps.
    """
    worst = Response(response_ns=0, released_ns=0)
    horizon = _horizon_ns(level)
    steps = 0
    for released in _releases(level.equals):
        if horizon is not None and released >= horizon:
            return worst
        ended, taken = _end_ns(level, released)
        steps += taken
        if ended - released > worst.response_ns:
            worst = Response(response_ns=ended - released, released_ns=released)
        if worst.response_ns > level.task.deadline_ns:
            return worst
        if steps > MAX_STEPS:
            break
    raise AnalysisTooLong(tasks=len(level.urgent) + len(level.equals), steps=MAX_STEPS)


def _end_ns(level: Level, released_ns: int) -> tuple[int, int]:
    """When the job released then ends at the latest, and steps taken; stops where the deadline is over."""
    task = level.task
    last = task.pieces_ns[-1]
    before = level.blocking_ns - last
    before += sum((released_ns // other.period_ns + 1) * other.cost_ns for other in level.equals)
    due = released_ns + task.deadline_ns
    begin = before + sum(other.cost_ns for other in level.urgent)
    for step in range(1, MAX_STEPS):
        if begin + last > due:
            return begin + last, step
        grown = before + sum((begin // other.period_ns + 1) * other.cost_ns for other in level.urgent)
        if grown == begin:
            return begin + last, step
        begin = grown
    raise AnalysisTooLong(tasks=len(level.urgent) + len(level.equals), steps=MAX_STEPS)


def _horizon_ns(level: Level) -> int | None:
    """Releases from here on repeat earlier ones; None where a miss is certain to come first.

    At a utilisation of one the active period need not end; then starts repeat with the hyperperiod.
    """
    tasks = (*level.urgent, *level.equals)
    share = utilisation(tasks)
    if share > 1:
        return None
    if share == Fraction(1) and level.blocking_ns:
        return lcm(*(task.period_ns for task in tasks))
    length = level.blocking_ns + sum(task.cost_ns for task in tasks)
    for _ in range(MAX_STEPS):
        grown = level.blocking_ns + sum(-(-length // task.period_ns) * task.cost_ns for task in tasks)
        if grown == length:
            return length
        length = grown
    raise AnalysisTooLong(tasks=len(tasks), steps=MAX_STEPS)


def _releases(tasks: Sequence[PeriodicTask]) -> Iterator[int]:
    """Release times of tasks that all begin at 0, each once, in order, without end."""
    coming = [(0, task.period_ns) for task in tasks]
    last = -1
    while True:
        at, period = heapq.heappop(coming)
        heapq.heappush(coming, (at + period, period))
        if at > last:
            last = at
            yield at
