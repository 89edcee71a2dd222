"""Earliest deadline first: demand bound with blocking, necessary and sufficient.

Sporadic tasks whose jobs are sequences of non-preemptive segments keep all deadlines under EDF if and only
if U <= 1 and for every interval of t time units that holds a deadline

    sum over i of dbf_i(t) + max over k with D_k > t of (longest segment of k - 1)  <=  t

with dbf_i(t) = max(0, floor((t - D_i) / T_i) + 1) C_i (Baruah, Mok, Rosier 1990). For jobs of one segment it
is the condition of Jeffay, Stanat and Martel (1991) and of George, Rivierre and Spuri (1996); with regions
that may lie anywhere it is that of Baruah (2005). That it stays exact for any number of fixed preemption
points is argued in docs/explanation/admission.md and tested against exhaustive search. The minus one: a
segment blocks only if it began before, and time is whole. Check points are visited with the iteration of
Zhang and Burns (2009), once for each stretch of intervals in which the blocking term is constant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import lcm

from plumbline.errors import ResourceError
from plumbline.scheduling.admission.tasks import PeriodicTask

__all__ = [
    "MAX_STEPS",
    "AnalysisTooLong",
    "Violation",
    "demand_ns",
    "find_overload",
    "find_violation",
    "utilisation",
]

MAX_STEPS = 200_000
"""Most steps of one analysis; real task sets need tens."""


@dataclass(eq=False, kw_only=True)
class AnalysisTooLong(ResourceError):
    """An admission analysis would take more steps than it may: utilisation is within a hair of one."""

    code = "resource.admission_analysis"
    owner = "scheduling"
    template = "the admission analysis of {tasks} tasks takes more than {steps} steps"

    tasks: int
    steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """An interval that asks for more than its length.

    Attributes:
        interval_ns: its length.
        demand_ns: of jobs released and due within it.
        blocking_ns: of the segment that began just before it.
        blocker: task of that segment; None for unpromised work, or where nothing blocks.
    """

    interval_ns: int
    demand_ns: int
    blocking_ns: int = 0
    blocker: PeriodicTask | None = None


def utilisation(tasks: Sequence[PeriodicTask]) -> Fraction:
    """Share of all time that the tasks may ask for."""
    return sum((Fraction(task.cost_ns, task.period_ns) for task in tasks), Fraction(0))


def demand_ns(tasks: Sequence[PeriodicTask], interval_ns: int) -> int:
    """Most work that is released and due within an interval of this length."""
    total = 0
    for task in tasks:
        if interval_ns >= task.deadline_ns:
            total += ((interval_ns - task.deadline_ns) // task.period_ns + 1) * task.cost_ns
    return total


def find_violation(
    tasks: Sequence[PeriodicTask], *, blocking_ns: int = 0, below_ns: int | None = None
) -> Violation | None:
    """An interval whose demand and blocking exceed its length, or None if there is none.

    Args:
        tasks: with a utilisation of at most one.
        blocking_ns: of work that is not among the tasks and may block any interval.
        below_ns: look at shorter intervals only.

    Raises:
        AnalysisTooLong: it would take too many steps.
    """
    if not tasks:
        return None
    longest = _longest_interval_ns(tasks, blocking_ns) if below_ns is None else below_ns - 1
    deadlines = sorted({task.deadline_ns for task in tasks})
    for place, low in enumerate(deadlines):
        if low > longest:
            break
        high = longest if place + 1 == len(deadlines) else min(deadlines[place + 1] - 1, longest)
        blocker = _blocker(tasks, low, blocking_ns)
        blocked = blocking_ns if blocker is None else max(blocker.pieces_ns) - 1
        found = _violation_between(tasks, low, high, blocked)
        if found is not None:
            return Violation(
                interval_ns=found,
                demand_ns=demand_ns(tasks, found),
                blocking_ns=blocked,
                blocker=blocker,
            )
    return None


def find_overload(tasks: Sequence[PeriodicTask]) -> Violation | None:
    """An interval whose demand alone exceeds it, where utilisation is above one; None if it is very long.

    Doubles the interval, then halves the distance: not the shortest, but short.
    """
    high = max(task.deadline_ns for task in tasks)
    for _ in range(80):
        if demand_ns(tasks, high) > high:
            break
        high *= 2
    else:
        return None
    low = high // 2
    while low < high:
        middle = (low + high) // 2
        if demand_ns(tasks, middle) > middle:
            high = middle
        else:
            low = middle + 1
    return Violation(interval_ns=high, demand_ns=demand_ns(tasks, high))


def _blocker(tasks: Sequence[PeriodicTask], interval_ns: int, blocking_ns: int) -> PeriodicTask | None:
    later = [task for task in tasks if task.deadline_ns > interval_ns]
    found = max(later, key=lambda task: max(task.pieces_ns), default=None)
    return None if found is None or max(found.pieces_ns) - 1 <= blocking_ns else found


def _violation_between(tasks: Sequence[PeriodicTask], low: int, high: int, blocking: int) -> int | None:
    """The longest violated interval from `low` to `high`, where the blocking term is constant."""
    interval = _last_deadline(tasks, high + 1)
    for _ in range(MAX_STEPS):
        if interval is None or interval < low:
            return None
        asked = demand_ns(tasks, interval) + blocking
        if asked > interval:
            return interval
        interval = asked if asked < interval else _last_deadline(tasks, interval)
    raise AnalysisTooLong(tasks=len(tasks), steps=MAX_STEPS)


def _last_deadline(tasks: Sequence[PeriodicTask], before_ns: int) -> int | None:
    """The longest interval shorter than `before_ns` at which the demand jumps."""
    found: int | None = None
    for task in tasks:
        room = before_ns - 1 - task.deadline_ns
        if room >= 0:
            last = task.deadline_ns + room // task.period_ns * task.period_ns
            found = last if found is None else max(found, last)
    return found


def _longest_interval_ns(tasks: Sequence[PeriodicTask], blocking_ns: int) -> int:
    """No longer interval has to be looked at.

    Below a utilisation of one: the busy period of a synchronous release behind the longest blocking. At one
    that period need not end; then the demand repeats with the hyperperiod, and so does the blocking once
    every deadline is below the interval.
    """
    blocking = max(blocking_ns, max(max(task.pieces_ns) for task in tasks) - 1)
    furthest = max(task.deadline_ns for task in tasks)
    if utilisation(tasks) < 1:
        return _busy_ns(tasks, blocking)
    if blocking_ns == 0:
        return max(_busy_ns(tasks, 0), furthest)
    return furthest + lcm(*(task.period_ns for task in tasks))


def _busy_ns(tasks: Sequence[PeriodicTask], blocking_ns: int) -> int:
    length = blocking_ns + sum(task.cost_ns for task in tasks)
    for _ in range(MAX_STEPS):
        grown = blocking_ns + sum(-(-length // task.period_ns) * task.cost_ns for task in tasks)
        if grown == length:
            return length
        length = grown
    raise AnalysisTooLong(tasks=len(tasks), steps=MAX_STEPS)
