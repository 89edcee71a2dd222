"""Strictly periodic releases at known offsets: a simulation can refute them, it never accepts.

A set that no pattern can make late is promised whatever its offsets. Of the others some would be harmless at
their offsets, but a simulation at cost bounds does not show it: without preemption inside a segment a job
that ends early can let a less urgent one in, and cause a miss that the full costs do not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import lcm

from plumbline.scheduling.admission.counterexample import MAX_RELEASES, key_of
from plumbline.scheduling.admission.orders import Order, rank_of
from plumbline.scheduling.admission.sets import decide_task_set
from plumbline.scheduling.admission.tasks import PeriodicTask
from plumbline.scheduling.admission.verdict import Accepted, Reason, Refused, Verdict
from plumbline.scheduling.simulation import Release, Timeline, simulate

__all__ = ["ExecutionTime", "decide_offsets", "simulate_tasks"]

ExecutionTime = Callable[[PeriodicTask, int, int], int]
"""How long segment `segment` of job `job` of a task takes: (task, job, segment) -> nanoseconds."""


def simulate_tasks(
    tasks: Sequence[PeriodicTask],
    order: Order,
    *,
    horizon_ns: int,
    offsets_ns: Mapping[str, int] | None = None,
    execution_ns: ExecutionTime | None = None,
    stream: int = 0,
    stop_at_miss: bool = False,
) -> Timeline:
    """Strictly periodic releases up to a horizon, run to their end in virtual time.

    Args:
        tasks: of one stream; simultaneous jobs arrive in this order.
        order: who goes first.
        horizon_ns: releases from 0 up to here, at most 20,000 of them.
        offsets_ns: first release by task; the task's own offset, or 0, where it is not named.
        execution_ns: how long segments take; None: their bounds.
        stream: index, for the timeline.
        stop_at_miss: end with the first miss.
    """
    offsets = offsets_ns or {}
    releases: list[Release] = []
    for task in tasks:
        first = offsets.get(task.name, task.offset_ns or 0)
        for job, released in enumerate(range(first, horizon_ns, task.period_ns)):
            if len(releases) >= MAX_RELEASES:
                break
            pieces = task.pieces_ns
            if execution_ns is not None:
                pieces = tuple(execution_ns(task, job, place) for place in range(len(pieces)))
            releases.append(
                Release(
                    task=task.name,
                    job=job,
                    released_ns=released,
                    deadline_ns=released + task.deadline_ns,
                    segments_ns=pieces,
                    rank=rank_of(task, order),
                )
            )
    return simulate(releases, key_of(order), stream=stream, stop_at_miss=stop_at_miss)


def decide_offsets(
    tasks: Sequence[PeriodicTask], order: Order, *, best_effort_segment_ns: int = 0, stream: int = 0
) -> Verdict:
    """A verdict for tasks that all state their offset.

    Accepted if the sporadic test accepts. Otherwise refused: with the schedule at these offsets where
    simulation finds a miss in the first two hyperperiods, and then the refusal is a fact about these
    offsets; else with the sporadic counter-example, and `exact` is False: nothing was proved either way.
    """
    verdict = decide_task_set(tasks, order, best_effort_segment_ns=best_effort_segment_ns, stream=stream)
    if isinstance(verdict, Accepted):
        return verdict
    latest = max((task.offset_ns or 0) for task in tasks)
    horizon = latest + 2 * lcm(*(task.period_ns for task in tasks))
    timeline = simulate_tasks(tasks, order, horizon_ns=horizon, stream=stream, stop_at_miss=True)
    if not timeline.misses:
        return _unproved(verdict)
    miss = timeline.misses[0]
    released = next(r for r in timeline.releases if (r.task, r.job) == (miss.task, miss.job)).released_ns
    return replace(
        verdict,
        victim=miss.task,
        kind=Reason.OFFSETS,
        reason=f"at these offsets job {miss.job} of {miss.task} is {miss.end_ns - miss.deadline_ns} ns late",
        bound_ns=miss.end_ns - released,
        limit_ns=miss.deadline_ns - released,
        counterexample=timeline,
    )


def _unproved(verdict: Refused) -> Refused:
    text = "; at the given offsets no miss was found, which proves nothing for shorter jobs"
    return replace(verdict, reason=verdict.reason + text, exact=False)
