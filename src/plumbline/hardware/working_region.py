"""Lifecycle of reused memory: a region is taken, given back, poisoned, taken again (requirement L0-14).

    idle --take--> taken --give_back--> poisoned --take--> taken
    idle | poisoned --unmap--> unmapped

A view belongs to the generation that took the region. Giving back releases its memory views and overwrites
the bytes, so that a stale read raises instead of seeing the next user's data.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from plumbline.errors import ValidationError
from plumbline.hardware.lifecycle import next_state

POISON = 0xFF
"""Byte written over memory that was given back: NaN in every floating-point type."""


class RegionState(StrEnum):
    """Who may touch a region."""

    IDLE = "idle"
    TAKEN = "taken"
    POISONED = "poisoned"
    UNMAPPED = "unmapped"


class RegionEvent(StrEnum):
    """What happens to a region."""

    TAKE = "take"
    GIVE_BACK = "give_back"
    UNMAP = "unmap"


REGION_TRANSITIONS = {
    (RegionState.IDLE, RegionEvent.TAKE): RegionState.TAKEN,
    (RegionState.TAKEN, RegionEvent.GIVE_BACK): RegionState.POISONED,
    (RegionState.POISONED, RegionEvent.TAKE): RegionState.TAKEN,
    (RegionState.IDLE, RegionEvent.UNMAP): RegionState.UNMAPPED,
    (RegionState.POISONED, RegionEvent.UNMAP): RegionState.UNMAPPED,
}


@dataclass(eq=False, kw_only=True)
class StaleLeaseError(ValidationError):
    """Memory was asked for through a lease that was given back."""

    code = "validation.stale_lease"
    owner = "hardware"
    template = "lease {generation} of region {label!r} was given back"

    label: str
    generation: int


@dataclass(eq=False, kw_only=True)
class RegionLentError(ValidationError):
    """A region cannot be given back while arrays point into it."""

    code = "validation.region_lent"
    owner = "hardware"
    template = "region {label!r} cannot be given back: an array still points into lease {generation}"

    label: str
    generation: int


class WorkingRegion:
    """Owns the right to use one writable memory view, one lease at a time."""

    def __init__(self, memory: memoryview, *, label: str) -> None:
        self.label = label
        self.state = RegionState.IDLE
        self.generation = 0
        self._memory = memory.cast("B")

    def take(self) -> RegionLease:
        """Take the region for one use.

        Raises:
            IllegalTransitionError: it is taken or unmapped.
        """
        self._follow(RegionEvent.TAKE)
        self.generation += 1
        return RegionLease(self, self._memory[:], self.generation)

    def unmap(self) -> None:
        """End the region.

        Raises:
            IllegalTransitionError: it is taken.
        """
        self._follow(RegionEvent.UNMAP)
        self._memory.release()

    def _follow(self, event: RegionEvent) -> None:
        self.state = next_state(REGION_TRANSITIONS, self.state, event, subject=f"region {self.label!r}")

    def _give_back(self) -> None:
        self._follow(RegionEvent.GIVE_BACK)
        self._memory[:] = bytes([POISON]) * len(self._memory)


class RegionLease:
    """The right to use a region until `give_back`."""

    def __init__(self, region: WorkingRegion, memory: memoryview, generation: int) -> None:
        self._region = region
        self._memory: memoryview | None = memory
        self._views: list[weakref.ref[memoryview]] = []
        self._arrays: weakref.WeakValueDictionary[int, npt.NDArray[Any]] = weakref.WeakValueDictionary()
        self.generation = generation

    def view(self) -> memoryview:
        """Writable bytes of the region.

        Raises:
            StaleLeaseError: the lease was given back.
        """
        if self._memory is None:
            raise StaleLeaseError(label=self._region.label, generation=self.generation)
        view = self._memory[:]
        self._views.append(weakref.ref(view))
        return view

    def array(self, dtype: npt.DTypeLike, count: int, offset: int = 0) -> npt.NDArray[Any]:
        """`count` elements from byte `offset`; the region cannot be given back while it, or a slice, exists.

        Raises:
            StaleLeaseError: the lease was given back.
        """
        array = np.frombuffer(self.view(), dtype=dtype, count=count, offset=offset)
        self._arrays[id(array)] = array
        return array

    def give_back(self) -> None:
        """Release every view and poison the bytes.

        Raises:
            StaleLeaseError: it was given back before.
            RegionLentError: an array of this lease still exists.
        """
        if self._memory is None:
            raise StaleLeaseError(label=self._region.label, generation=self.generation)
        if self._arrays:
            raise RegionLentError(label=self._region.label, generation=self.generation)
        for view in [reference() for reference in self._views]:
            if view is not None:
                view.release()
        self._memory.release()
        self._memory = None
        self._region._give_back()
