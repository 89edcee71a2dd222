"""Room for inputs in the shared file: blocks of powers of two, handed out and taken back by the gateway."""

from __future__ import annotations

__all__ = ["SMALLEST_SLOT_BYTES", "SlotAllocator"]

SMALLEST_SLOT_BYTES = 256


class SlotAllocator:
    """Buddies, merged only when a request finds no room: usually taking and giving are one list operation.

    Owner of the free blocks of one region; used on the gateway's loop only. A slot is a pair of offset and
    order, whose size is `SMALLEST_SLOT_BYTES << order`.
    """

    def __init__(self, start: int, size: int) -> None:
        self._start = start
        self._orders = max((size // SMALLEST_SLOT_BYTES).bit_length(), 1)
        self._free: list[list[int]] = [[] for _ in range(self._orders)]
        self.size_bytes = 0
        self.used_bytes = 0
        self._add_range(size)

    def _add_range(self, size: int) -> None:
        offset = 0
        for order in reversed(range(self._orders)):
            block = SMALLEST_SLOT_BYTES << order
            if offset + block <= size:
                self._free[order].append(offset)
                offset += block
        self.size_bytes = offset

    def take(self, size: int) -> tuple[int, int] | None:
        """A slot of at least this many bytes, or None when there is no such room."""
        order = (max(size - 1, 0) // SMALLEST_SLOT_BYTES).bit_length()
        if order >= self._orders:
            return None
        if not self._free[order] and not self._split_into(order):
            self._merge()
            if not self._free[order] and not self._split_into(order):
                return None
        self.used_bytes += SMALLEST_SLOT_BYTES << order
        return self._start + self._free[order].pop(), order

    def give(self, slot: tuple[int, int]) -> None:
        """Take a slot back that `take` gave."""
        offset, order = slot
        self.used_bytes -= SMALLEST_SLOT_BYTES << order
        self._free[order].append(offset - self._start)

    def _split_into(self, order: int) -> bool:
        larger = order
        while larger < self._orders and not self._free[larger]:
            larger += 1
        if larger == self._orders:
            return False
        while larger > order:
            offset = self._free[larger].pop()
            larger -= 1
            self._free[larger] += [offset + (SMALLEST_SLOT_BYTES << larger), offset]
        return True

    def _merge(self) -> None:
        for order in range(self._orders - 1):
            block = SMALLEST_SLOT_BYTES << order
            offsets = set(self._free[order])
            pairs = [low for low in offsets if not low & block and low | block in offsets]
            for low in pairs:
                offsets -= {low, low | block}
            self._free[order] = sorted(offsets, reverse=True)
            self._free[order + 1] += pairs
