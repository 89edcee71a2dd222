"""The life of a place is a table."""

from __future__ import annotations

import pytest

from plumbline.serving.ports import WorkerState
from plumbline.serving.workers.lifecycle import WorkerEvent, WorkerTransitionRefused, apply


def test_a_stalled_worker_can_only_be_lost() -> None:
    """It is never ready again: it is killed first, then replaced."""
    for event in (WorkerEvent.READY, WorkerEvent.START, WorkerEvent.STALL):
        with pytest.raises(WorkerTransitionRefused):
            apply(WorkerState.STALLED, event)
    assert apply(WorkerState.STALLED, WorkerEvent.LOST) is WorkerState.DEAD


def test_every_state_leads_back_to_readiness() -> None:
    for state in WorkerState:
        seen, frontier = {state}, [state]
        while frontier:
            current = frontier.pop()
            for event in WorkerEvent:
                try:
                    after = apply(current, event)
                except WorkerTransitionRefused:
                    continue
                if after not in seen:
                    seen.add(after)
                    frontier.append(after)
        assert WorkerState.READY in seen
