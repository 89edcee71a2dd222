"""`TaskQueue`: requests that wait for a stream, in the order of a policy (requirements L4-12, L4-22, L4-43).

    queue -> lane (graph, bound stream) -> group (batch key) -> entries by key

Finding who goes first looks at the first group of each lane, so it costs O(lanes + log n); entering and
leaving cost O(log n).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from plumbline.scheduling.batch_group import BatchGroup
from plumbline.scheduling.keyed_heap import KeyedHeap
from plumbline.scheduling.lane import Lane
from plumbline.scheduling.policy import Key, SchedulingPolicy
from plumbline.scheduling.queue_entry import LaneKey, QueueEntry, entry_mark, expiry_of
from plumbline.scheduling.request import ExecutionRequest

__all__ = ["TaskQueue"]


class TaskQueue:
    """Owns the queued requests and the state of the policy. Knows no clock: times are arguments.

    Attributes:
        policy: that gives the keys.
        mark: sum of the marks of the queued, modulo 2**128; equal for equal content, in any order.
    """

    def __init__(self, policy: SchedulingPolicy) -> None:
        self.policy = policy
        self.mark = 0
        self._entries: dict[str, QueueEntry] = {}
        self._lanes: dict[LaneKey, Lane] = {}
        self._expiries: KeyedHeap[QueueEntry] = KeyedHeap()

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[QueueEntry]:
        """Queued requests in the order in which they entered."""
        return iter(self._entries.values())

    def find(self, request_id: str) -> QueueEntry | None:
        """The queued request of this id."""
        return self._entries.get(request_id)

    def enter(self, request: ExecutionRequest, arrival: int, now_ns: int) -> QueueEntry:
        """Queue a request; the policy gives its key."""
        return self.put(request, self.policy.enter(request, arrival), arrival, now_ns)

    def put(self, request: ExecutionRequest, key: Key, arrival: int, entered_ns: int) -> QueueEntry:
        """Queue a request whose key is known (a snapshot is restored)."""
        entry = QueueEntry(
            request=request,
            key=key,
            arrival=arrival,
            entered_ns=entered_ns,
            mark=entry_mark(request.id, key),
        )
        self._entries[request.id] = entry
        self.mark = (self.mark + entry.mark) % (1 << 128)
        identity = (request.graph, request.stream)
        lane = self._lanes.get(identity)
        if lane is None:
            lane = self._lanes[identity] = Lane(identity)
        lane.add(entry)
        expiry_ns = expiry_of(request)
        if expiry_ns is not None:
            self._expiries.push((expiry_ns, arrival), entry)
        return entry

    def leave(self, entry: QueueEntry, *, selected: bool) -> None:
        """A queued request leaves: to run, or because it was cancelled or expired."""
        request = entry.request
        entry.alive = False
        del self._entries[request.id]
        self.mark = (self.mark - entry.mark) % (1 << 128)
        identity = (request.graph, request.stream)
        lane = self._lanes[identity]
        lane.forget(entry)
        if lane.is_empty:
            del self._lanes[identity]
        if expiry_of(request) is not None:
            self._expiries.forget_one()
        self.policy.leave(request, entry.key, selected=selected)

    def first_expiry(self) -> tuple[int, QueueEntry] | None:
        """Which request expires first, and when."""
        first = self._expiries.first()
        return None if first is None else (first[0][0], first[1])

    def first_group(
        self, stream: int, now_ns: int, busy: Collection[str], above: Key | None
    ) -> BatchGroup | None:
        """The group whose head goes first of those that may start on `stream` now."""
        best: BatchGroup | None = None
        best_key = above
        for lane in self._eligible(stream, busy):
            found = lane.first(now_ns)
            if found is not None and (best_key is None or found[0] < best_key):
                best_key, best = found
        return best

    def first_held(self, stream: int, busy: Collection[str]) -> tuple[int, BatchGroup] | None:
        """The group whose waiting for company ends first, and when."""
        found = [held for lane in self._eligible(stream, busy) if (held := lane.first_held()) is not None]
        return min(found, key=lambda held: held[0]) if found else None

    def take(self, group: BatchGroup, above: Key | None) -> list[QueueEntry]:
        """The next launch of a group leaves the queue: its head, then those after it in policy order.

        The first one that does not fit the bounds, or does not go before `above`, ends the launch, so nobody
        of a group overtakes.
        """
        taken: list[QueueEntry] = []
        units = 0
        while (entry := group.head()) is not None:
            if taken and not (
                group.accepts(entry, units, len(taken)) and (above is None or entry.key < above)
            ):
                break
            taken.append(entry)
            terms = entry.request.batch
            units += terms.units if terms is not None else 0
            self.leave(entry, selected=True)
            if terms is None:
                break
        return taken

    def _eligible(self, stream: int, busy: Collection[str]) -> Iterator[Lane]:
        for (graph, bound), lane in self._lanes.items():
            if (bound is None or bound == stream) and graph not in busy:
                yield lane
