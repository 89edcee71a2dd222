"""A heap whose members may leave from the middle: they are only marked, and skipped when they come up."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from plumbline.scheduling.policy import Key

__all__ = ["KeyedHeap"]

_SLACK = 16


class _Leaver(Protocol):
    alive: bool


T = TypeVar("T", bound=_Leaver)


class KeyedHeap(Generic[T]):
    """Members by key, lowest first. Owns its list; whoever marks a member calls `forget_one`.

    Push, pop and first cost O(log n) comparisons; the marked ones are swept out when they outnumber the
    living, so memory stays within twice the living (plus 16) and the sweep costs O(1) for each departure.
    """

    __slots__ = ("_dead", "_items")

    def __init__(self) -> None:
        self._items: list[tuple[Key, T]] = []
        self._dead = 0

    def __len__(self) -> int:
        return len(self._items) - self._dead

    def __iter__(self) -> Iterator[T]:
        """The living, in no particular order."""
        return (member for _, member in self._items if member.alive)

    def push(self, key: Key, member: T) -> None:
        """Add a living member. Keys are unique."""
        heapq.heappush(self._items, (key, member))

    def first(self) -> tuple[Key, T] | None:
        """Lowest key and its member, or None when nobody is left."""
        items = self._items
        while items:
            if items[0][1].alive:
                return items[0]
            heapq.heappop(items)
            self._dead -= 1
        return None

    def forget_one(self) -> None:
        """A member was marked as gone and is still in here."""
        self._dead += 1
        if self._dead > len(self._items) // 2 + _SLACK:
            self._items = [item for item in self._items if item[1].alive]
            heapq.heapify(self._items)
            self._dead = 0
