"""Memory of the simulated device: first-fit ranges of one address space, each backed by its own pages."""

from __future__ import annotations

import threading
from collections.abc import Callable

from plumbline.hardware.faults import DeviceMemoryExhaustedError, DriverGate
from plumbline.hardware.host.mappings import HostBlock
from plumbline.hardware.memory import MemoryBlock


class SimulatedBlock(HostBlock):
    """A range of the simulated address space."""

    def __init__(self, start: int, size_bytes: int) -> None:
        super().__init__(size_bytes)
        self.start = start
        self.size_bytes = size_bytes


class SimulatedMemoryDriver:
    """First-fit allocation without compaction. Owns the list of free ranges `(start, size_bytes)`."""

    def __init__(self, *, capacity_bytes: int, host_visible: bool, gate: DriverGate) -> None:
        self.host_visible = host_visible
        self._gate = gate
        self._free = [(0, capacity_bytes)]
        self._lock = threading.RLock()

    def allocate(self, size_bytes: int) -> MemoryBlock | None:
        """One driver call; None when no free range is large enough."""
        with self._lock:
            try:
                self._gate.enter("allocate")
            except DeviceMemoryExhaustedError:
                return None
            for index, (start, size) in enumerate(self._free):
                if size >= size_bytes:
                    block = SimulatedBlock(start, size_bytes)
                    self._free[index] = (start + size_bytes, size - size_bytes)
                    return block
            return None

    def release(self, block: MemoryBlock, reclaimed: Callable[[], None]) -> None:
        """Return the range to the free list once nothing points into it."""
        if isinstance(block, SimulatedBlock):
            start, size_bytes = block.start, block.size_bytes

            def free_range() -> None:
                self._insert_free(start, size_bytes)
                reclaimed()

            block.end(free_range)
        self._gate.enter("release", releasing=True)

    def _insert_free(self, start: int, size_bytes: int) -> None:
        with self._lock:
            merged: list[tuple[int, int]] = []
            for low, size in sorted([*self._free, (start, size_bytes)]):
                if merged and merged[-1][0] + merged[-1][1] == low:
                    merged[-1] = (merged[-1][0], merged[-1][1] + size)
                elif size:
                    merged.append((low, size))
            self._free = merged
