"""A few kills of the matrix in every run; `python -m plumbline.testing.kill_matrix` for more (L4-72)."""

from __future__ import annotations

import pytest

from plumbline.testing.kill_matrix import run_kill_matrix
from plumbline.testing.worker_pools import in_time


def test_no_accepted_call_is_lost_or_doubled_while_workers_are_killed() -> None:
    summary = in_time(run_kill_matrix(kills=5, seed=3), 300.0)
    assert summary.holds, summary
    assert summary.answered > 0
    assert summary.replaced > 0


@pytest.mark.slow
def test_no_accepted_call_is_lost_or_doubled_over_two_hundred_kills() -> None:
    """Acceptance of issue 3, section 6: zero lost, zero doubled."""
    summary = in_time(run_kill_matrix(kills=200, seed=200), 1800.0)
    assert summary.holds, summary
    assert summary.kills >= 200
