"""A task set at once: promised for every sporadic release pattern, or refused with one that misses."""

from __future__ import annotations

from collections.abc import Sequence

from plumbline.scheduling.admission.counterexample import (
    MAX_RELEASES,
    confirm,
    demand_pattern,
    response_pattern,
)
from plumbline.scheduling.admission.demand import (
    AnalysisTooLong,
    Violation,
    find_overload,
    find_violation,
    utilisation,
)
from plumbline.scheduling.admission.orders import Order, rank_of
from plumbline.scheduling.admission.response import Level, Response, level_of, worst_response
from plumbline.scheduling.admission.tasks import PeriodicTask
from plumbline.scheduling.admission.verdict import Accepted, Reason, Refused, Verdict
from plumbline.scheduling.simulation import BEST_EFFORT

__all__ = ["decide_task_set"]


def decide_task_set(
    tasks: Sequence[PeriodicTask],
    order: Order,
    *,
    best_effort_segment_ns: int = 0,
    stream: int = 0,
    subject: str = "",
    most_releases: int = MAX_RELEASES,
) -> Verdict:
    """Whether every job of every task ends by its deadline, however the releases fall and jobs shorten.

    Necessary and sufficient for sporadic releases; offsets of the tasks are not looked at
    (`offsets.decide_offsets` does). Tasks that are indivisible count as one segment, which is exact if
    they run so, and only sufficient if they could be interrupted.

    Args:
        tasks: of one stream, with distinct names.
        order: who goes first.
        best_effort_segment_ns: bound of the longest segment of unpromised work.
        stream: index, for timelines.
        subject: who asks, for the verdict; the last task when empty.
        most_releases: of a counter-example; a longer one is not shown. Where utilisation is above one by a
            hair, the first miss is far away.

    Returns:
        Accepted with a response bound for each task (under EDF: its deadline), or Refused.
    """
    if not tasks:
        return Accepted(subject=subject, bound_ns=0)
    asking = subject or tasks[-1].name
    blocking = max(0, best_effort_segment_ns - 1)
    try:
        if order is Order.EDF:
            return _decide_edf(tasks, blocking, stream, asking, most_releases)
        return _decide_fixed(tasks, order, blocking, stream, asking, most_releases)
    except AnalysisTooLong as error:
        return Refused(
            subject=asking, victim=asking, kind=Reason.UNDECIDED, reason=error.message, bound_ns=error.steps,
            limit_ns=error.steps, exact=False, permanent=True,
        )  # fmt: skip


def _decide_edf(
    tasks: Sequence[PeriodicTask], blocking: int, stream: int, subject: str, most: int
) -> Verdict:
    overloaded = utilisation(tasks) > 1
    violation = find_overload(tasks) if overloaded else find_violation(tasks, blocking_ns=blocking)
    if overloaded and violation is None:
        return _overload(tasks, subject)
    if violation is None:
        bounds = {task.name: task.deadline_ns for task in tasks}
        return Accepted(subject=subject, bound_ns=bounds.get(subject, 0), bounds_ns=bounds)
    timeline = confirm(demand_pattern(tasks, violation, Order.EDF, most=most), Order.EDF, stream=stream)
    asked = violation.demand_ns + violation.blocking_ns
    return Refused(
        subject=subject,
        victim=timeline.misses[0].task if timeline else subject,
        kind=Reason.UTILISATION if overloaded else Reason.DEMAND,
        reason=_overload_text(tasks) if overloaded else _demand_text(violation),
        bound_ns=asked,
        limit_ns=violation.interval_ns,
        exact=True,
        permanent=True,
        counterexample=timeline,
    )


def _decide_fixed(
    tasks: Sequence[PeriodicTask], order: Order, blocking: int, stream: int, subject: str, most: int
) -> Verdict:
    overloaded = utilisation(tasks) > 1
    bounds: dict[str, int] = {}
    for task in sorted(tasks, key=lambda task: rank_of(task, order)):
        level = level_of(task, tasks, order, blocking_ns=blocking)
        try:
            response = worst_response(level)
        except AnalysisTooLong:
            if overloaded:
                return _overload(tasks, subject)
            raise
        bounds[task.name] = response.response_ns
        if response.response_ns > task.deadline_ns:
            timeline = confirm(response_pattern(level, response, order, most=most), order, stream=stream)
            return Refused(
                subject=subject,
                victim=task.name,
                kind=Reason.UTILISATION if overloaded else Reason.RESPONSE,
                reason=_overload_text(tasks) if overloaded else _response_text(level, response),
                bound_ns=response.response_ns,
                limit_ns=task.deadline_ns,
                exact=True,
                permanent=True,
                counterexample=timeline,
            )
    return Accepted(subject=subject, bound_ns=bounds.get(subject, 0), bounds_ns=bounds)


def _overload(tasks: Sequence[PeriodicTask], subject: str) -> Refused:
    """Above one by so little that the first miss is too far away to be shown."""
    share = utilisation(tasks)
    return Refused(
        subject=subject, victim=subject, kind=Reason.UTILISATION, reason=_overload_text(tasks),
        bound_ns=share.numerator, limit_ns=share.denominator, exact=True, permanent=True,
    )  # fmt: skip


def _overload_text(tasks: Sequence[PeriodicTask]) -> str:
    return f"the tasks ask for {float(utilisation(tasks)):.4%} of the time of the stream"


def _demand_text(violation: Violation) -> str:
    text = f"{violation.demand_ns} ns must be done within {violation.interval_ns} ns"
    return text + _blocking_text(violation.blocking_ns, violation.blocker)


def _response_text(level: Level, response: Response) -> str:
    text = (
        f"a job of {level.task.name} can take {response.response_ns} ns or more from release to end, its "
        f"deadline is {level.task.deadline_ns} ns"
    )
    return text + _blocking_text(level.blocking_ns, level.blocker)


def _blocking_text(blocking_ns: int, blocker: PeriodicTask | None) -> str:
    if blocking_ns == 0:
        return ""
    name = BEST_EFFORT if blocker is None else blocker.name
    return f", behind {blocking_ns} ns that are left of a segment of {name} when it is released"
