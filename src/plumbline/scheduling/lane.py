"""A lane: the queued requests of one graph that are bound to one stream, or to none."""

from __future__ import annotations

import heapq

from plumbline.scheduling.batch_group import BatchGroup
from plumbline.scheduling.policy import Key
from plumbline.scheduling.queue_entry import GroupKey, LaneKey, QueueEntry, group_key

__all__ = ["Lane"]

_SLACK = 16


class Lane:
    """Groups of one graph and one binding, those that may be launched apart from those that wait for company.

    Owned by a `TaskQueue`. A group is listed again whenever its head or its waiting time changes; what is out
    of date is skipped when it comes up and swept out when it outnumbers the groups. Every change costs
    O(log n) comparisons.
    """

    __slots__ = ("_groups", "_held", "_listed", "_ready", "identity")

    def __init__(self, identity: LaneKey) -> None:
        self.identity = identity
        self._groups: dict[GroupKey, BatchGroup] = {}
        self._ready: list[tuple[Key, int, BatchGroup]] = []
        self._held: list[tuple[int, int, BatchGroup]] = []
        self._listed = 0

    @property
    def is_empty(self) -> bool:
        """Whether nobody is queued here."""
        return not self._groups

    def add(self, entry: QueueEntry) -> None:
        """A request enters."""
        identity = group_key(entry.request)
        group = self._groups.get(identity)
        if group is None:
            group = self._groups[identity] = BatchGroup(identity)
        group.add(entry)
        self._list(group)

    def forget(self, entry: QueueEntry) -> None:
        """A request, already marked as gone, leaves."""
        group = self._groups[group_key(entry.request)]
        group.forget(entry)
        self._list(group)

    def first(self, now_ns: int) -> tuple[Key, BatchGroup] | None:
        """The group that goes first of those that may be launched now, with the key of its head."""
        self._promote(now_ns)
        while self._ready:
            key, _, group = self._ready[0]
            if group.ready_key == key:
                return key, group
            heapq.heappop(self._ready)
        return None

    def first_held(self) -> tuple[int, BatchGroup] | None:
        """The group whose waiting for company ends first, and when."""
        while self._held:
            until_ns, _, group = self._held[0]
            if group.held_until == until_ns:
                return until_ns, group
            heapq.heappop(self._held)
        return None

    def _promote(self, now_ns: int) -> None:
        while (held := self.first_held()) is not None and held[0] <= now_ns:
            group = held[1]
            heapq.heappop(self._held)
            group.held_until = None
            head = group.head()
            if head is not None:
                group.ready_key = head.key
                self._push_ready(head.key, group)

    def _list(self, group: BatchGroup) -> None:
        """List a group afresh: it changed."""
        head = group.head()
        if head is None:
            group.ready_key = group.held_until = None
            del self._groups[group.identity]
            return
        until_ns = group.waits_until()
        if until_ns is None or until_ns <= head.entered_ns:
            group.held_until = None
            if group.ready_key != head.key:
                group.ready_key = head.key
                self._push_ready(head.key, group)
        else:
            group.ready_key = None
            if group.held_until != until_ns:
                group.held_until = until_ns
                self._push_held(until_ns, group)

    def _push_ready(self, key: Key, group: BatchGroup) -> None:
        self._listed += 1
        heapq.heappush(self._ready, (key, self._listed, group))
        if len(self._ready) > 2 * len(self._groups) + _SLACK:
            self._ready = [item for item in self._ready if item[2].ready_key == item[0]]
            heapq.heapify(self._ready)

    def _push_held(self, until_ns: int, group: BatchGroup) -> None:
        self._listed += 1
        heapq.heappush(self._held, (until_ns, self._listed, group))
        if len(self._held) > 2 * len(self._groups) + _SLACK:
            self._held = [item for item in self._held if item[2].held_until == item[0]]
            heapq.heapify(self._held)
