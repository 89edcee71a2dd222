"""The admission tests against every legal future of small task sets: right in both directions (L4-65)."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from plumbline.scheduling.admission.orders import Order
from plumbline.scheduling.admission.promises import StreamPromises
from plumbline.scheduling.admission.sets import decide_task_set
from plumbline.scheduling.admission.tasks import OneShot, PeriodicTask
from plumbline.testing.admission_oracle import OracleTooLarge, can_miss


def small_tasks(rng, count, longest):
    """Tasks of a few time units that are neither overloaded nor hopeless alone."""
    while True:
        tasks = [
            PeriodicTask(
                name=f"t{index}",
                graph="m@1",
                period_ns=rng.randint(count, longest),
                deadline_ns=rng.randint(1, longest + 4),
                segments_ns=tuple(rng.randint(1, 3) for _ in range(rng.randint(1, 3))),
                priority=rng.randint(0, 3),
            )
            for index in range(count)
        ]
        if sum(t.cost_ns / t.period_ns for t in tasks) <= 1 and all(
            t.cost_ns <= t.deadline_ns for t in tasks
        ):
            return tasks


def compare(seed, sets, count, longest, *, varied, most_states=30_000):
    """Every disagreement of the tests with the search, and how often each verdict was judged."""
    rng, judged, wrong = random.Random(seed), Counter(), []
    for _ in range(sets):
        tasks, best_effort = small_tasks(rng, count, longest), rng.choice((0, 0, 1, 2, 3))
        for order in Order:
            verdict = decide_task_set(tasks, order, best_effort_segment_ns=best_effort)
            try:
                late = can_miss(
                    tasks, order, best_effort_segment_ns=best_effort, varied=varied, most_states=most_states
                )
            except OracleTooLarge:
                continue
            judged[order, verdict.accepted] += 1
            if verdict.accepted == late or not (verdict.accepted or verdict.counterexample):
                wrong.append((tasks, order, best_effort, verdict, late))
    return judged, wrong


@pytest.mark.parametrize("varied", [False, True], ids=["full costs", "shorter jobs too"])
def test_a_set_of_two_is_admitted_exactly_when_no_legal_future_misses(varied: bool) -> None:
    judged, wrong = compare(11, 60, 2, 8, varied=varied)
    assert wrong == []
    assert min(judged[order, accepted] for order in Order for accepted in (True, False)) >= 5


@pytest.mark.slow
def test_a_set_of_three_is_admitted_exactly_when_no_legal_future_misses() -> None:
    judged, wrong = compare(5, 400, 3, 12, varied=False, most_states=60_000)
    assert wrong == []
    assert sum(judged.values()) > 500


def test_a_promise_from_a_known_state_is_right_in_both_directions() -> None:
    """Accepted: no future misses. Refused by an exact part of the test: one does, and is shown."""
    seen = Counter()
    for seed in range(100):
        judge_stream(random.Random(seed), seen)
    assert min(seen["accepted"], seen["refused"]) > 20


def judge_stream(rng, seen):
    now, best_effort = 100, rng.choice((0, 1, 2, 3))
    promises = StreamPromises(rng.choice(tuple(Order)).value, best_effort_segment_ns=best_effort)
    jobs, held = [], None
    for task in small_tasks(rng, rng.randint(1, 2), 12):
        promises.register_task(task, now + rng.randint(0, 6))
    waits = [max(0, promises.earliest_release_ns(task.name) - now) for task in promises.tasks]
    if best_effort and rng.random() < 0.4:
        promises.started("other", now, bound_ns=best_effort)
        held, waits = (-1, best_effort), [max(1, wait) for wait in waits]
    for number in range(3):
        job = OneShot(
            id=f"j{number}", graph="m@1", arrived_ns=now, deadline_ns=now + rng.randint(1, 16),
            segments_ns=tuple(rng.randint(1, 3) for _ in range(rng.randint(1, 2))),
            priority=rng.randint(0, 3), period_ns=rng.choice((None, 3, 6, 9)),
        )  # fmt: skip
        verdict = promises.consider(job, now)
        try:
            late = can_miss(
                promises.tasks, promises.order, best_effort_segment_ns=best_effort, waits=waits, held=held,
                pending=[as_task(known, now) for known in (*jobs, job)], most_states=20_000,
            )  # fmt: skip
        except OracleTooLarge:
            late = None
        if verdict.accepted:
            assert not late, (promises.tasks, jobs, job)
            jobs.append(job)
            seen["accepted"] += 1
        elif verdict.exact and late is not None:
            assert late, (promises.tasks, jobs, job)
            assert verdict.counterexample is not None
            seen["refused"] += 1


def as_task(job, now):
    return PeriodicTask(
        name=job.id, graph=job.graph, period_ns=job.period_ns or 10**9, deadline_ns=job.deadline_ns - now,
        segments_ns=job.segments_ns, priority=job.priority,
    )  # fmt: skip
