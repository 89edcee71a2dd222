"""Life of a place for workers, as a table.

starting --ready--> ready --stall--> stalled --lost--> dead --start--> starting
    |                 |                                 ^
    +------lost-------+--drain--> draining ----lost-----+
"""

from __future__ import annotations

from enum import StrEnum

from plumbline.serving.ports import WorkerState

__all__ = ["WorkerEvent", "WorkerTransitionRefused", "apply"]


class WorkerEvent(StrEnum):
    """What happens to a place."""

    START = "start"
    READY = "ready"
    STALL = "stall"
    DRAIN = "drain"
    LOST = "lost"


class WorkerTransitionRefused(RuntimeError):
    """A transition that there is not: a defect of the pool."""


_TRANSITIONS: dict[tuple[WorkerState, WorkerEvent], WorkerState] = {
    (WorkerState.DEAD, WorkerEvent.START): WorkerState.STARTING,
    (WorkerState.STARTING, WorkerEvent.READY): WorkerState.READY,
    (WorkerState.STARTING, WorkerEvent.STALL): WorkerState.STALLED,
    (WorkerState.STARTING, WorkerEvent.DRAIN): WorkerState.DRAINING,
    (WorkerState.STARTING, WorkerEvent.LOST): WorkerState.DEAD,
    (WorkerState.READY, WorkerEvent.STALL): WorkerState.STALLED,
    (WorkerState.READY, WorkerEvent.DRAIN): WorkerState.DRAINING,
    (WorkerState.READY, WorkerEvent.LOST): WorkerState.DEAD,
    (WorkerState.STALLED, WorkerEvent.DRAIN): WorkerState.STALLED,
    (WorkerState.STALLED, WorkerEvent.LOST): WorkerState.DEAD,
    (WorkerState.DRAINING, WorkerEvent.STALL): WorkerState.STALLED,
    (WorkerState.DRAINING, WorkerEvent.DRAIN): WorkerState.DRAINING,
    (WorkerState.DRAINING, WorkerEvent.LOST): WorkerState.DEAD,
    (WorkerState.DEAD, WorkerEvent.DRAIN): WorkerState.DEAD,
}


def apply(state: WorkerState, event: WorkerEvent) -> WorkerState:
    """The state after the event.

    Raises:
        WorkerTransitionRefused: the event cannot happen in this state.
    """
    try:
        return _TRANSITIONS[state, event]
    except KeyError:
        raise WorkerTransitionRefused(f"{event.value} in {state.value}") from None
