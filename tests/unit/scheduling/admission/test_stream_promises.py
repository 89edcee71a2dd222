"""Promises of one stream while it runs (L4-03, L4-65)."""

from __future__ import annotations

import pytest

from plumbline.errors import Recoverability
from plumbline.scheduling.admission.promises import PromiseUnknown, StreamPromises
from plumbline.scheduling.admission.tasks import OneShot, PeriodicTask
from plumbline.scheduling.admission.verdict import AdmissionInfeasible, AdmissionRefused, Reason

MS = 1_000_000


def shot(name, cost, deadline, **more):
    segments = cost if isinstance(cost, tuple) else (cost,)
    return OneShot(id=name, graph="m@1", segments_ns=segments, arrived_ns=0, deadline_ns=deadline, **more)


def camera(**more):
    terms = {"period_ns": 30 * MS, "deadline_ns": 20 * MS, "segments_ns": (5 * MS, 5 * MS), **more}
    return PeriodicTask(name="camera", graph="m@1", **terms)


def test_an_earlier_promise_is_never_broken_by_a_later_one() -> None:
    promises = StreamPromises("edf")
    assert promises.consider(shot("a", 5, 10), 0).bound_ns == 5
    verdict = promises.consider(shot("b", 6, 9), 0)
    assert verdict.kind is Reason.DEMAND
    assert verdict.counterexample.misses[0].task == "a"
    assert promises.promised == ("a",)
    assert promises.consider(shot("c", 5, 9), 0).accepted


def test_waiting_helps_where_others_are_in_the_way_and_not_where_the_job_is_too_long() -> None:
    promises = StreamPromises("edf")
    promises.consider(shot("a", 50 * MS, 50 * MS), 0)
    crowded = promises.consider(shot("b", 10 * MS, 40 * MS), 0).error()
    assert isinstance(crowded, AdmissionRefused)
    assert crowded.recoverability is Recoverability.TRANSIENT
    assert crowded.retry_after_s == pytest.approx(0.01)
    hopeless = promises.consider(shot("c", 10 * MS, 9 * MS), 0).error()
    assert isinstance(hopeless, AdmissionInfeasible)
    assert hopeless.recoverability is Recoverability.PERMANENT
    assert "alone" in str(hopeless)


def test_who_holds_the_stream_counts_until_its_segment_ends() -> None:
    promises = StreamPromises("edf", best_effort_segment_ns=8)
    promises.started("anything", 100, bound_ns=8)
    assert not promises.consider(shot("a", 5, 112), 102).accepted
    promises.segment_done("anything", 104)
    assert promises.consider(shot("a", 5, 112), 104).accepted


def test_a_segment_past_its_bound_stops_new_promises() -> None:
    promises = StreamPromises("edf", best_effort_segment_ns=8)
    promises.started("anything", 100)
    assert promises.consider(shot("a", 5, 10_000), 109).kind is Reason.OVERRUN


def test_a_one_shot_leaves_room_for_the_next_release_of_a_task() -> None:
    """Its segment may not hold up a release by more than the task can bear."""
    promises = StreamPromises("edf")
    assert promises.register_task(camera(), 0).accepted
    promises.release("camera", "frame 0", 0)
    assert promises.consider(shot("long", 12 * MS, 500 * MS), 0).kind is Reason.BLOCKING
    assert promises.consider(shot("cut", (4 * MS,) * 3, 500 * MS), 0).accepted


def test_a_task_that_a_pending_job_would_block_is_refused() -> None:
    promises = StreamPromises("rate_monotonic")
    assert promises.consider(shot("long", 12 * MS, 500 * MS), 0).accepted
    assert not promises.register_task(camera(), 0).accepted
    promises.finished("long", 12 * MS)
    assert promises.register_task(camera(), 12 * MS).accepted


def test_a_release_before_its_time_gets_no_promise() -> None:
    promises = StreamPromises("edf")
    promises.register_task(camera(), 0)
    assert promises.release("camera", "frame 0", 5).bound_ns == 5 + 20 * MS
    early = promises.release("camera", "frame 1", 5 + 29 * MS)
    assert early.kind is Reason.TOO_EARLY
    assert early.retry_after_ns == MS
    assert promises.release("camera", "frame 1", 5 + 30 * MS).accepted


def test_a_late_job_is_a_breach_that_names_the_segment_to_blame() -> None:
    promises = StreamPromises("edf")
    promises.consider(shot("a", 5, 10), 0)
    promises.started("a", 0)
    promises.segment_done("a", 12)
    breach = promises.finished("a", 12)
    assert (breach.deadline_ns, breach.finished_ns) == (10, 12)
    assert "a segment of a took 12 ns, its bound is 5" in breach.causes


def test_a_withdrawn_job_breaks_no_promise_and_gives_its_room_back() -> None:
    promises = StreamPromises("edf")
    promises.consider(shot("a", 5, 10), 0)
    assert not promises.consider(shot("b", 9, 10), 0).accepted
    assert promises.finished("a", 50, completed=False) is None
    assert promises.consider(shot("b", 9, 60), 50).accepted


def test_a_job_that_is_late_already_does_not_refuse_others() -> None:
    promises = StreamPromises("priority")
    promises.consider(shot("low", (5, 5), 10, priority=1), 0)
    promises.started("low", 0)
    promises.segment_done("low", 9)
    assert promises.consider(shot("high", 3, 40, priority=9), 9).accepted


def test_an_indivisible_job_holds_the_stream_between_its_segments() -> None:
    promises = StreamPromises("edf")
    promises.consider(shot("whole", (5, 5), 100, indivisible=True), 0)
    promises.started("whole", 0)
    promises.segment_done("whole", 5)
    assert not promises.consider(shot("urgent", 2, 5 + 6), 5).accepted
    assert promises.consider(shot("urgent", 2, 5 + 7), 5).accepted


def test_names_that_mean_nothing_or_two_things_are_refused() -> None:
    promises = StreamPromises("edf")
    promises.register_task(camera(), 0)
    promises.consider(shot("a", 5, MS), 0)
    for call in (
        lambda: promises.consider(shot("a", 5, MS), 0),
        lambda: promises.register_task(camera(), 0),
        lambda: promises.release("radar", "x", 0),
        lambda: promises.remove_task("radar"),
        lambda: promises.earliest_release_ns("radar"),
    ):
        with pytest.raises(PromiseUnknown):
            call()


def test_a_removed_task_leaves_its_room() -> None:
    promises = StreamPromises("edf")
    promises.register_task(camera(), 0)
    promises.remove_task("camera")
    assert promises.consider(shot("long", 12 * MS, 500 * MS), 0).accepted
