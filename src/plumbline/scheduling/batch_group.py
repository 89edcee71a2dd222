"""A group: the queued requests that may share a launch."""

from __future__ import annotations

from plumbline.scheduling.keyed_heap import KeyedHeap
from plumbline.scheduling.policy import Key
from plumbline.scheduling.queue_entry import GroupKey, QueueEntry, hold_until

__all__ = ["BatchGroup"]


class BatchGroup:
    """Queued requests of one group key in policy order. Owned by its lane.

    Attributes:
        identity: graph, bound stream, batch key.
        units: that its requests take together.
        ready_key: key under which the lane lists it as ready, or None while it waits for company.
        held_until: while it waits: until when.
        told_until: the last waiting time that was recorded.
    """

    __slots__ = ("_entries", "_holds", "held_until", "identity", "ready_key", "told_until", "units")

    def __init__(self, identity: GroupKey) -> None:
        self.identity = identity
        self.units = 0
        self.ready_key: Key | None = None
        self.held_until: int | None = None
        self.told_until: int | None = None
        self._entries: KeyedHeap[QueueEntry] = KeyedHeap()
        self._holds: KeyedHeap[QueueEntry] = KeyedHeap()

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: QueueEntry) -> None:
        """A request enters."""
        self._entries.push(entry.key, entry)
        if entry.request.batch is not None:
            self.units += entry.request.batch.units
            self._holds.push((hold_until(entry.request, entry.entered_ns), entry.arrival), entry)

    def forget(self, entry: QueueEntry) -> None:
        """A request, already marked as gone, leaves."""
        self._entries.forget_one()
        if entry.request.batch is not None:
            self.units -= entry.request.batch.units
            self._holds.forget_one()

    def head(self) -> QueueEntry | None:
        """The request with the lowest key."""
        first = self._entries.first()
        return None if first is None else first[1]

    def waits_until(self) -> int | None:
        """Until when a launch is held back for company; None when it is filled or takes no company."""
        head = self.head()
        if head is None or head.request.batch is None or self.is_filled():
            return None
        first = self._holds.first()
        return None if first is None else first[0][0]

    def is_filled(self) -> bool:
        """Whether the next launch would reach a bound."""
        head = self.head()
        if head is None or head.request.batch is None:
            return False
        terms = head.request.batch
        return self.units >= terms.max_units or len(self) >= terms.max_requests

    def accepts(self, entry: QueueEntry, units: int, count: int) -> bool:
        """Whether `entry` fits into a launch that already has `units` of `count` requests."""
        terms = entry.request.batch
        return terms is not None and count < terms.max_requests and units + terms.units <= terms.max_units
