"""Lifecycle of one allocation on a device (requirement L0-12).

    requested --grant--> allocated --release--> releasing --reclaim--> released
        +------refuse--> refused

`releasing` lasts as long as arrays still point into the memory: it counts as used until they are gone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from plumbline.hardware.lifecycle import next_state


class AllocationState(StrEnum):
    """Where an allocation is in its life."""

    REQUESTED = "requested"
    ALLOCATED = "allocated"
    RELEASING = "releasing"
    RELEASED = "released"
    REFUSED = "refused"


class AllocationEvent(StrEnum):
    """What happens to an allocation."""

    GRANT = "grant"
    REFUSE = "refuse"
    RELEASE = "release"
    RECLAIM = "reclaim"


ALLOCATION_TRANSITIONS = {
    (AllocationState.REQUESTED, AllocationEvent.GRANT): AllocationState.ALLOCATED,
    (AllocationState.REQUESTED, AllocationEvent.REFUSE): AllocationState.REFUSED,
    (AllocationState.ALLOCATED, AllocationEvent.RELEASE): AllocationState.RELEASING,
    (AllocationState.RELEASING, AllocationEvent.RECLAIM): AllocationState.RELEASED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """One request for device memory. `size_bytes` is what is accounted, alignment included."""

    number: int
    label: str
    tenant: str
    size_bytes: int
    state: AllocationState = AllocationState.REQUESTED


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocationChange:
    """The one event that a transition emits."""

    allocation: Allocation
    event: AllocationEvent
    before: AllocationState


def apply(allocation: Allocation, event: AllocationEvent) -> tuple[Allocation, AllocationChange]:
    """Follow one transition.

    Raises:
        IllegalTransitionError: the table has no such transition.
    """
    state = next_state(
        ALLOCATION_TRANSITIONS, allocation.state, event, subject=f"allocation {allocation.label!r}"
    )
    after = replace(allocation, state=state)
    return after, AllocationChange(allocation=after, event=event, before=allocation.state)
