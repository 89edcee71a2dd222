"""Stalls are decided from counters alone (U9)."""

from __future__ import annotations

from plumbline.serving.workers.progress import Look, ProgressWatch

MS = 1_000_000


def looks(watch: ProgressWatch, times_ms: range, *, beats: bool, steps: bool, busy: bool) -> str | None:
    reason = None
    for index, at_ms in enumerate(times_ms):
        look = Look(
            at_ns=at_ms * MS,
            beats=index if beats else 1,
            steps=index if steps else 1,
            busy=busy,
            bound_ns=300 * MS,
            floor_ns=100 * MS,
        )
        reason = watch.observe(look) or reason
    return reason


def test_a_worker_without_a_beat_beyond_the_floor_is_stalled() -> None:
    assert looks(ProgressWatch(10 * MS), range(0, 100, 10), beats=False, steps=True, busy=False) is None
    reason = looks(ProgressWatch(10 * MS), range(0, 130, 10), beats=False, steps=True, busy=False)
    assert reason is not None
    assert reason.startswith("no sign of life")


def test_a_busy_engine_without_a_step_beyond_its_bound_is_stalled() -> None:
    assert looks(ProgressWatch(10 * MS), range(0, 300, 10), beats=True, steps=False, busy=True) is None
    reason = looks(ProgressWatch(10 * MS), range(0, 330, 10), beats=True, steps=False, busy=True)
    assert reason is not None
    assert "bound 0.300 s" in reason


def test_an_idle_engine_need_not_step() -> None:
    assert looks(ProgressWatch(10 * MS), range(0, 5000, 10), beats=True, steps=False, busy=False) is None


def test_a_gateway_that_was_held_up_blames_nobody() -> None:
    """One look after a long pause counts for two intervals only."""
    assert (
        looks(ProgressWatch(10 * MS), range(0, 20_000, 10_000), beats=False, steps=False, busy=True) is None
    )
