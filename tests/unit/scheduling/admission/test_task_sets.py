"""Verdicts for task sets that can be checked by hand (L4-65)."""

from __future__ import annotations

import json
import random

import pytest

from plumbline.scheduling.admission.demand import find_violation
from plumbline.scheduling.admission.offsets import decide_offsets, simulate_tasks
from plumbline.scheduling.admission.orders import Order, PolicyWithoutGuarantee, order_of
from plumbline.scheduling.admission.promises import StreamPromises
from plumbline.scheduling.admission.sets import decide_task_set
from plumbline.scheduling.admission.tasks import PeriodicTask, PromiseTermsRefused
from plumbline.scheduling.admission.verdict import AdmissionInfeasible, Reason
from plumbline.scheduling.policies.earliest_deadline_first import EarliestDeadlineFirstPolicy
from plumbline.scheduling.policies.rate_monotonic import RateMonotonicPolicy


def task(name, period, deadline, *segments, **more):
    return PeriodicTask(
        name=name, graph="m@1", period_ns=period, deadline_ns=deadline, segments_ns=segments, **more
    )


@pytest.mark.parametrize(("segment", "admitted"), [(8, True), (9, False)])
def test_a_segment_blocks_by_one_unit_less_than_its_length(segment: int, admitted: bool) -> None:
    """3 units due within 10: 7 of a segment that began before can be left, so it may have 8."""
    verdict = decide_task_set([task("short", 20, 10, 3), task("long", 100, 100, segment)], Order.EDF)
    assert verdict.accepted is admitted


@pytest.mark.parametrize("order", [Order.EDF, Order.PRIORITY, Order.RATE_MONOTONIC])
def test_cutting_a_long_job_into_segments_makes_room_for_a_short_deadline(order: Order) -> None:
    short = task("short", 20, 6, 3, priority=9)
    assert not decide_task_set([short, task("long", 60, 60, 12)], order).accepted
    assert decide_task_set([short, task("long", 60, 60, 4, 4, 4)], order).accepted


def test_an_indivisible_job_counts_as_one_segment() -> None:
    """One instance for several tasks: sufficient only, the job cannot be given up between its segments."""
    short = task("short", 20, 6, 3)
    assert not decide_task_set([short, task("long", 60, 60, 4, 4, 4, indivisible=True)], Order.EDF).accepted


def test_the_second_job_of_an_active_period_is_looked_at_too() -> None:
    """Non-preemptive fixed order: the first job of `c` ends in time, the second does not."""
    tasks = [
        task("a", 10, 10, 4, priority=9),
        task("b", 14, 12, 4, priority=8),
        task("c", 14, 13, 4, priority=1),
    ]
    verdict = decide_task_set(tasks, Order.PRIORITY)
    first = simulate_tasks(tasks, Order.PRIORITY, horizon_ns=1)
    assert first.misses == ()
    assert not verdict.accepted
    assert verdict.victim == "c"
    assert verdict.counterexample.misses[0].job > 0


def test_more_than_all_the_time_is_refused_with_a_schedule_that_runs_late() -> None:
    verdict = decide_task_set([task("a", 10, 10, 6), task("b", 10, 30, 5)], Order.EDF)
    assert verdict.kind is Reason.UTILISATION
    assert verdict.counterexample.misses


def test_all_of_the_time_may_be_promised() -> None:
    for order in (Order.EDF, Order.PRIORITY):
        tasks = [task("a", 4, 8, 2, priority=9), task("b", 8, 8, 2, 2, priority=1)]
        assert decide_task_set(tasks, order).accepted


def test_a_refusal_is_a_document_and_a_typed_error() -> None:
    verdict = decide_task_set([task("a", 10, 5, 3), task("b", 50, 50, 9)], Order.EDF, subject="b", stream=2)
    document = json.loads(json.dumps(verdict.document()))
    assert document["kind"] == "demand"
    assert (document["bound_ns"], document["limit_ns"]) == (11, 5)
    assert document["counterexample"]["stream"] == 2
    assert document["counterexample"]["misses"][0]["task"] == "a"
    error = verdict.error()
    assert isinstance(error, AdmissionInfeasible)
    assert "behind 8 ns that are left of a segment of b" in str(error)


def test_a_shorter_job_can_cause_a_miss_that_full_costs_do_not() -> None:
    """The anomaly: why simulation at cost bounds never accepts. `a` ends early, `c` slips in before `b`."""
    tasks = [
        task("a", 20, 16, 2, offset_ns=2),
        task("b", 20, 5, 3, offset_ns=4),
        task("c", 20, 14, 5, offset_ns=3),
    ]
    assert simulate_tasks(tasks, Order.EDF, horizon_ns=60).misses == ()
    shorter = simulate_tasks(
        tasks, Order.EDF, horizon_ns=60,
        execution_ns=lambda t, job, segment: 1 if t.name == "a" else t.pieces_ns[segment],
    )  # fmt: skip
    assert shorter.misses[0].task == "b"
    verdict = decide_offsets(tasks, Order.EDF)
    assert not verdict.accepted
    assert not verdict.exact
    assert "proves nothing" in verdict.reason


def test_known_offsets_that_miss_are_refused_with_that_schedule() -> None:
    tasks = [task("a", 20, 5, 3, offset_ns=1), task("b", 20, 20, 8, offset_ns=0)]
    verdict = decide_offsets(tasks, Order.EDF)
    assert verdict.kind is Reason.OFFSETS
    assert verdict.exact
    assert verdict.counterexample.misses[0].task == "a"


def test_only_policies_with_an_exact_test_can_promise() -> None:
    assert order_of(EarliestDeadlineFirstPolicy.name) is Order.EDF
    assert order_of(RateMonotonicPolicy.name) is Order.RATE_MONOTONIC
    assert order_of("priority") is Order.PRIORITY
    for policy in ("fifo", "fair", "of my own"):
        with pytest.raises(PolicyWithoutGuarantee, match=policy):
            StreamPromises(policy)


@pytest.mark.parametrize(
    "terms",
    [
        {"period_ns": 0}, {"period_ns": 1.5}, {"deadline_ns": -1}, {"segments_ns": ()}, {"segments_ns": (0,)},
        {"segments_ns": (True,)}, {"offset_ns": -1}, {"name": ""}, {"period_ns": 2**63},
        {"segments_ns": (1,) * 5000},
    ],
)  # fmt: skip
def test_impossible_terms_are_refused_by_field(terms) -> None:
    good = {"name": "a", "graph": "m@1", "period_ns": 10, "deadline_ns": 10, "segments_ns": (1,)}
    with pytest.raises(PromiseTermsRefused, match=next(iter(terms))):
        PeriodicTask(**{**good, **terms})


def test_a_hair_below_one_with_periods_in_nanoseconds_is_decided() -> None:
    """Real periods are large and share no small multiple; the analysis may not take for ever."""
    tasks = [task(f"t{n}", p, p, p // 4) for n, p in enumerate((33_333_333, 16_666_667, 10_000_019))]
    tasks.append(task("rest", 99_999_989, 99_999_989, *(1_000_000,) * 24))
    assert decide_task_set(tasks, Order.EDF).kind in (Reason.DEMAND, Reason.UNDECIDED)


def test_the_quick_walk_over_intervals_finds_what_a_slow_one_finds() -> None:
    rng = random.Random(3)
    for _ in range(300):
        tasks = [
            task(f"t{n}", rng.randint(5, 40), rng.randint(3, 60), *(rng.randint(1, 4),) * rng.randint(1, 2))
            for n in range(3)
        ]
        if sum(t.cost_ns / t.period_ns for t in tasks) >= 0.95:
            continue
        slow = any(
            demand > 0 and demand + blocking > interval
            for interval in range(1, 2000)
            for demand in [
                sum(max(0, (interval - t.deadline_ns) // t.period_ns + 1) * t.cost_ns for t in tasks)
            ]
            for blocking in [
                max((max(t.segments_ns) - 1 for t in tasks if t.deadline_ns > interval), default=0)
            ]
        )
        assert (find_violation(tasks) is not None) == slow
