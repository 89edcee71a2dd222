"""Release patterns that miss a deadline, built from the critical instant and confirmed by simulation.

The pattern is always the same: a segment that blocks begins one time unit before everything else arrives at
once, and then everything comes as often as it may.
"""

from __future__ import annotations

from collections.abc import Sequence

from plumbline.scheduling.admission.demand import Violation
from plumbline.scheduling.admission.orders import Order, rank_of
from plumbline.scheduling.admission.response import Level, Response
from plumbline.scheduling.admission.tasks import PeriodicTask
from plumbline.scheduling.simulation import (
    BEST_EFFORT,
    OrderKey,
    Release,
    Timeline,
    by_deadline,
    by_rank,
    simulate,
)

__all__ = ["MAX_RELEASES", "confirm", "demand_pattern", "key_of", "periodic", "response_pattern"]

MAX_RELEASES = 20_000
"""Most jobs of a counter-example, unless more are asked for; a pattern with more is not shown."""


def key_of(order: Order) -> OrderKey:
    """The key of a simulation for an order."""
    return by_deadline if order is Order.EDF else by_rank


def confirm(
    releases: Sequence[Release] | None, order: Order, *, stream: int = 0, running: Release | None = None
) -> Timeline | None:
    """The timeline of a release pattern up to its first miss; None if it misses nothing."""
    if releases is None:
        return None
    timeline = simulate(releases, key_of(order), stream=stream, running=running, stop_at_miss=True)
    return timeline if timeline.misses else None


def demand_pattern(
    tasks: Sequence[PeriodicTask], violation: Violation, order: Order, *, most: int = MAX_RELEASES
) -> list[Release] | None:
    """Releases whose demand within the interval exceeds it; None if there are too many."""
    origin, releases = _blocked(violation.blocker, violation.blocking_ns, order)
    due = [task for task in tasks if task.deadline_ns <= violation.interval_ns]
    counts = [(violation.interval_ns - task.deadline_ns) // task.period_ns + 1 for task in due]
    if sum(counts) > most:
        return None
    for task, count in zip(due, counts, strict=True):
        releases += periodic(task, order, first_ns=origin, count=count)
    return releases


def response_pattern(
    level: Level, response: Response, order: Order, *, most: int = MAX_RELEASES
) -> list[Release] | None:
    """Releases under which a job of the task responds that late; None if there are too many."""
    origin, releases = _blocked(level.blocker, level.blocking_ns, order)
    task, released = level.task, response.released_ns
    before = [(other, released // other.period_ns + 1) for other in level.equals if other is not task]
    span = released + response.response_ns
    before += [(other, span // other.period_ns + 1) for other in level.urgent]
    own = released // task.period_ns + 1
    if sum(count for _, count in before) + own > most:
        return None
    for other, count in before:
        releases += periodic(other, order, first_ns=origin, count=count)
    first = origin + released - (own - 1) * task.period_ns
    return releases + periodic(task, order, first_ns=first, count=own)


def periodic(
    task: PeriodicTask, order: Order, *, first_ns: int, count: int, first_job: int = 0
) -> list[Release]:
    """Jobs of a task at their cost bounds, as often as it may come."""
    rank = rank_of(task, order)
    return [
        Release(
            task=task.name,
            job=first_job + number,
            released_ns=first_ns + number * task.period_ns,
            deadline_ns=first_ns + number * task.period_ns + task.deadline_ns,
            segments_ns=task.pieces_ns,
            rank=rank,
        )
        for number in range(count)
    ]


def _blocked(blocker: PeriodicTask | None, blocking_ns: int, order: Order) -> tuple[int, list[Release]]:
    """When everything arrives, and the job whose segment began one unit earlier, if one blocks."""
    if blocking_ns <= 0:
        return 0, []
    if blocker is None:
        segments = (blocking_ns + 1,)
        return 1, [
            Release(
                task=BEST_EFFORT, job=0, released_ns=0, deadline_ns=None, segments_ns=segments, promised=False
            )
        ]
    pieces = blocker.pieces_ns
    before = sum(pieces[: pieces.index(max(pieces))])
    return before + 1, periodic(blocker, order, first_ns=0, count=1)
