"""`DeviceAllocator`: gives tasks devices and takes them back, with a record of each (requirement L4-45)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from plumbline.contracts.clock import Clock, rfc3339
from plumbline.serving.devices.strategies import Candidate, Strategy, decide_device

__all__ = ["Allocation", "DeviceAllocator"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """A device held by a task. `released_wall_ns` is None while it is held."""

    holder: str
    device: str
    strategy: Strategy
    allocated_wall_ns: int
    released_wall_ns: int | None = None

    def to_document(self) -> dict[str, Any]:
        """Plain JSON values, without the holder."""
        released = self.released_wall_ns
        return {
            "device": self.device,
            "strategy": self.strategy.value,
            "allocated_at": rfc3339(self.allocated_wall_ns),
            "released_at": None if released is None else rfc3339(released),
        }


class DeviceAllocator:
    """Owns the table of held allocations. One event loop.

    Args:
        candidates: devices with status, in a stable order; their loads are counted here.
        clock: stamps the records.
        strategy: for tasks without a preference.
        released: told of a device whose allocation ended.
    """

    def __init__(
        self,
        candidates: Callable[[], Sequence[tuple[str, str, str]]],
        clock: Clock,
        *,
        strategy: Strategy = Strategy.LEAST_LOADED,
        released: Callable[[str], None] = lambda _device: None,
    ) -> None:
        self._candidates, self._clock, self._strategy = candidates, clock, strategy
        self._released = released
        self._held: dict[str, Allocation] = {}

    def verify(self, preference: str | None) -> None:
        """Raises what `allocate` would raise for a preference now; without one, nothing."""
        if preference is not None:
            decide_device(self._present(), self._strategy, preference)

    def allocate(self, holder: str, preference: str | None = None) -> Allocation:
        """A device for a holder, until `release`.

        Raises:
            DevicePreferenceRefused, NoDeviceAvailable: see `decide_device`.
        """
        device, strategy = decide_device(self._present(), self._strategy, preference)
        allocation = Allocation(
            holder=holder, device=device.id, strategy=strategy, allocated_wall_ns=self._clock.wall_ns()
        )
        self._held[holder] = allocation
        return allocation

    def release(self, allocation: Allocation) -> Allocation:
        """End an allocation; a second time changes nothing."""
        if self._held.pop(allocation.holder, None) is not None:
            self._released(allocation.device)
        return dataclasses.replace(allocation, released_wall_ns=self._clock.wall_ns())

    def load(self, device: str) -> int:
        """How many allocations a device has."""
        return sum(held.device == device for held in self._held.values())

    def held(self) -> Sequence[Allocation]:
        """Every allocation that was not released."""
        return tuple(self._held.values())

    def _present(self) -> list[Candidate]:
        return [
            Candidate(id=device, status=status, load=self.load(device), reason=reason)
            for device, status, reason in self._candidates()
        ]
