"""Random task sets in virtual time: nothing admitted misses, every refusal shows a miss (L4-65, U2)."""

from __future__ import annotations

import dataclasses

import pytest

from plumbline.scheduling.admission.orders import Order
from plumbline.scheduling.admission.sets import decide_task_set
from plumbline.scheduling.admission.tasks import PeriodicTask
from plumbline.testing.admission_campaign import run_campaign, verify_schedule


def test_in_a_campaign_no_admitted_set_misses_and_every_refusal_has_a_counter_example() -> None:
    campaign = run_campaign(400, 7)
    assert campaign.failures == []
    assert campaign.counts["missed by admitted sets"] == 0
    assert campaign.counts["jobs of admitted sets"] > 10_000
    assert campaign.counts["stream: one-shots promised"] > 100
    assert all(campaign.counts[f"{order.value} admitted"] > 20 for order in Order)
    assert all(campaign.counts[f"refused: {kind}"] > 10 for kind in ("demand", "response", "utilisation"))


@pytest.mark.slow
def test_in_a_campaign_of_ten_thousand_sets_no_promise_is_broken() -> None:
    assert run_campaign(10_000, 1).failures == []


TASKS = [
    PeriodicTask(name="short", graph="m@1", period_ns=10, deadline_ns=5, segments_ns=(3,)),
    PeriodicTask(name="long", graph="m@1", period_ns=40, deadline_ns=40, segments_ns=(4, 2)),
]


def refusal():
    verdict = decide_task_set(TASKS, Order.EDF)
    assert not verdict.accepted
    return verdict.counterexample


def test_the_judge_of_schedules_takes_a_real_counter_example() -> None:
    assert verify_schedule(refusal(), TASKS, Order.EDF, 0) is None


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda t: dataclasses.replace(t, pieces=t.pieces[::-1]), "waits while the stream is free"),
        (lambda t: dataclasses.replace(t, pieces=t.pieces[:1]), "nothing misses"),
        (
            lambda t: dataclasses.replace(
                t, releases=tuple(dataclasses.replace(r, segments_ns=(9,)) for r in t.releases)
            ),
            "other costs",
        ),
        (
            lambda t: dataclasses.replace(
                t, releases=(*t.releases, dataclasses.replace(t.releases[-1], job=9))
            ),
            "too early",
        ),
    ],
)
def test_the_judge_of_schedules_refuses_a_forged_one(change, complaint) -> None:
    assert complaint in verify_schedule(change(refusal()), TASKS, Order.EDF, 0)
