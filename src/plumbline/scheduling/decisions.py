"""`DecisionCore`: who runs next, on which stream, with whom (requirements L4-11, L4-12, L4-16, L4-17).

    submit -> queued --select--> launched --finish--> gone
                |  \\--expire--> gone
                \\--cancel--> gone

Single-threaded and deterministic: no clock, no thread, no randomness; times are arguments and must not run
backwards. Equal calls give equal decisions and equal records. Each record is handed out after the state has
changed, so at that moment the state is what the records say: a snapshot may be taken there.

While a group waits for company, other graphs may be launched on the stream (nobody idles for a batch that is
not due); only when nothing else can run does `select` answer `Hold`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from plumbline.contracts.records import (
    Arrival,
    Boundary,
    Breach,
    Cancellation,
    Expiry,
    Finish,
    Held,
    LaunchStart,
    Promise,
    Record,
    Refusal,
    Selection,
    Snapshot,
)
from plumbline.contracts.requests import RequestId
from plumbline.scheduling.batch_group import BatchGroup
from plumbline.scheduling.departures import Departures
from plumbline.scheduling.execution_limits import VerifiedRequest, verify_execution_request
from plumbline.scheduling.facts import request_facts
from plumbline.scheduling.launch import Hold, Launch, SelectionReason
from plumbline.scheduling.policy import Key, SchedulingPolicy
from plumbline.scheduling.queue_entry import QueueEntry
from plumbline.scheduling.refusals import (
    DuplicateRequest,
    LaunchUnknown,
    OutcomesIncomplete,
    QueueFull,
    StreamUnknown,
)
from plumbline.scheduling.request import ExecutionRequest
from plumbline.scheduling.snapshot import core_state, restore_core
from plumbline.scheduling.task_queue import TaskQueue

__all__ = ["DecisionCore", "Hold", "Launch", "SelectionReason"]


class DecisionCore:
    """Owns the run queue, the launches that go on, and the state of the policy.

    Attributes:
        rules: fingerprint of the rules, which snapshots state; a recorder sets it, empty for unknown. Nothing
            is decided from it.
    """

    def __init__(
        self,
        *,
        policy: SchedulingPolicy,
        capacity: int,
        streams: int,
        record: Callable[[Record], None] | None = None,
    ) -> None:
        """Args:
        policy: that orders the queue; the core owns its state.
        capacity: most requests in the queue.
        streams: how many there are; each is named by its index.
        record: gets every record, in order.
        """
        self.capacity = capacity
        self.streams = streams
        self.record = record
        self.queue = TaskQueue(policy)
        self.departures = Departures()
        self.rules = ""
        self.arrivals = 0
        self.launches = 0
        self.running: dict[int, Launch] = {}
        self._launch_of: dict[str, int] = {}
        self._expired: list[ExecutionRequest] = []

    @property
    def policy(self) -> SchedulingPolicy:
        """Who goes first."""
        return self.queue.policy

    @property
    def depth(self) -> int:
        """Requests in the queue."""
        return len(self.queue)

    @property
    def next_expiry_ns(self) -> int | None:
        """When the next queued request expires; 0 when some already have and were not fetched."""
        if self._expired:
            return 0
        first = self.queue.first_expiry()
        return None if first is None else first[0]

    @property
    def state_digest(self) -> bytes:
        """16 bytes: equal for equal queues, counters and running launches. Costs O(running)."""
        value = self.queue.mark + (self.arrivals << 64) + self.launches
        for number in self.running:
            value += (number + 1) * 0x9E3779B97F4A7C15F39CC0605CEDC835
        return (value % (1 << 128)).to_bytes(16, "little")

    def submit(self, request: ExecutionRequest, now_ns: int) -> None:
        """Queue a request, after a look at its numbers.

        Raises:
            ExecutionRequestRefused, PriorityRefused: a field makes no sense.
            QueueFull, DuplicateRequest, StreamUnknown: see `enter`.
        """
        self.enter(verify_execution_request(request), now_ns)

    def enter(self, request: VerifiedRequest, now_ns: int) -> None:
        """Queue a request whose numbers its submitter has looked at.

        Raises:
            QueueFull: the queue is at its bound; nothing was queued. Costs constant time.
            DuplicateRequest: a request of this id is queued or running.
            StreamUnknown: it is bound to a stream that is not there.
        """
        if request.stream is not None:
            self._verify_stream(request.stream)
        self._verify_new(request.id)
        if self.depth >= self.capacity:
            retry_after_s = self.departures.retry_after_s(self.capacity)
            self.refuse(request, now_ns, "queue_full", {"depth": self.depth})
            raise QueueFull(depth=self.depth, retry_after_s=retry_after_s)
        number = self.arrivals
        self.arrivals += 1
        entry = self.queue.enter(request, number, now_ns)
        if self.record is not None:
            self.record(Arrival(now_ns, request_facts(request), number, entry.key, self.depth))

    def select(
        self, stream: int, now_ns: int, *, busy: Collection[str] = (), above: Key | None = None
    ) -> Launch | Hold | None:
        """What `stream` runs next.

        Args:
            stream: that is free, or at a segment boundary.
            now_ns: the time.
            busy: graphs without a free instance; they are passed over.
            above: key of the launch that is between two segments, or the begin of one as a stricter bound:
                only requests that go before it.

        Returns:
            A launch, whose requests have left the queue; a time to ask again; None when nothing can run.
        """
        self._verify_stream(stream)
        self._expire(now_ns)
        group = self.queue.first_group(stream, now_ns, busy, above)
        if group is not None:
            return self._launch(group, stream, now_ns, busy, above)
        if above is not None:
            return None
        held = self.queue.first_held(stream, busy)
        if held is None:
            return None
        self._tell_hold(held[1], held[0], stream, now_ns, busy)
        return Hold(until_ns=held[0])

    def expire(self, now_ns: int, *, most: int | None = None) -> tuple[ExecutionRequest, ...]:
        """Requests whose `deadline_ns` or `start_by_ns` came (<= `now_ns`) while they were queued.

        They never run. Each is given once; `select` also removes them, and they are given here afterwards.
        `most`: how many leave the queue now (replay takes them one by one); None for all.
        """
        self._expire(now_ns, most)
        expired, self._expired = tuple(self._expired), []
        return expired

    def cancel(self, request_id: str, now_ns: int) -> ExecutionRequest | None:
        """Take a request out of the queue.

        Returns:
            The request; None when it is not queued. A running one stays in its launch (its caller ends it
            at a segment boundary); that it was cancelled is recorded.
        """
        entry = self.queue.find(request_id)
        if entry is not None:
            self.queue.leave(entry, selected=False)
        launch = self._launch_of.get(request_id)
        if self.record is not None and (entry is not None or launch is not None):
            self.record(Cancellation(now_ns, request_id, launch, self.depth))
        return None if entry is None else entry.request

    def launched(self, number: int, now_ns: int) -> None:
        """A launch began on its stream.

        Raises:
            LaunchUnknown: it is not running.
        """
        self._find_launch(number)
        if self.record is not None:
            self.record(LaunchStart(now_ns, number))

    def boundary(self, number: int, segment: int, now_ns: int) -> None:
        """A launch is between two segments; `segment` comes next.

        Raises:
            LaunchUnknown: it is not running.
        """
        self._find_launch(number)
        if self.record is not None:
            self.record(Boundary(now_ns, number, segment))

    def finish(self, number: int, now_ns: int, outcomes: Mapping[RequestId, str]) -> None:
        """A launch is over.

        Args:
            number: of the launch.
            now_ns: the time.
            outcomes: `ok`, `failed`, `cancelled`, ... for each of its requests.

        Raises:
            LaunchUnknown: it is not running.
            OutcomesIncomplete: the outcomes are not those of its requests.
        """
        launch = self._find_launch(number)
        ids = [request.id for request in launch.requests]
        if len(outcomes) != len(ids) or any(i not in outcomes for i in ids):
            raise OutcomesIncomplete(launch=number, requests=", ".join(sorted(set(ids) ^ set(outcomes))))
        del self.running[number]
        for request_id in ids:
            del self._launch_of[request_id]
        if self.record is not None:
            pairs = tuple((i, str(outcomes[i])) for i in ids)
            self.record(Finish(now_ns, number, pairs, self.depth))

    def refuse(self, request: ExecutionRequest, now_ns: int, reason: str, fields: Mapping[str, Any]) -> None:
        """Record that a request was turned away. `fields`: plain values."""
        if self.record is not None:
            self.record(Refusal(now_ns, request_facts(request), reason, dict(fields)))

    def promise(
        self,
        request: ExecutionRequest,
        now_ns: int,
        bound_ns: int,
        fields: Mapping[str, Any] | None = None,
    ) -> None:
        """Record that admission promised an end at most `bound_ns` after arrival. `fields`: plain values."""
        if self.record is not None:
            self.record(Promise(now_ns, request.id, bound_ns, dict(fields or {})))

    def breach(
        self,
        request: ExecutionRequest,
        now_ns: int,
        late_ns: int,
        cause: str,
        fields: Mapping[str, Any] | None = None,
    ) -> None:
        """Record that a promise was broken by `late_ns`, and why (a code). `fields`: plain values."""
        if self.record is not None:
            self.record(Breach(now_ns, request.id, late_ns, cause, dict(fields or {})))

    def snapshot(self) -> dict[str, Any]:
        """The whole state as plain values. Costs O(queued)."""
        return core_state(self)

    def snapshot_record(self, now_ns: int) -> Snapshot:
        """The whole state as a record."""
        return Snapshot(now_ns, core_state(self))

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take back what `snapshot` gave. The core is fresh, with a policy of the same kind.

        Raises:
            SnapshotRefused: the state is of another policy, or not a state.
        """
        restore_core(self, state)

    def adopt(self, launch: Launch) -> None:
        """Count a launch among the running ones (a selection, or a snapshot that is restored)."""
        self.running[launch.number] = launch
        for request in launch.requests:
            self._launch_of[request.id] = launch.number

    def _launch(
        self, group: BatchGroup, stream: int, now_ns: int, busy: Collection[str], above: Key | None
    ) -> Launch:
        reason = _reason(group)
        taken = self.queue.take(group, above)
        head = taken[0]
        launch = Launch(
            number=self.launches,
            requests=tuple(entry.request for entry in taken),
            key=head.key,
            reason=reason,
            stream=stream,
        )
        self.launches += 1
        self.adopt(launch)
        self.departures.depart(now_ns, len(taken))
        if self.record is not None:
            self.record(self._selection(launch, taken, now_ns, busy, above))
        return launch

    def _selection(
        self,
        launch: Launch,
        taken: list[QueueEntry],
        now_ns: int,
        busy: Collection[str],
        above: Key | None,
    ) -> Selection:
        units, bound = 0, 0
        for entry in taken:
            if entry.request.batch is not None:
                units += entry.request.batch.units
                bound = entry.request.batch.max_units
        return Selection(
            now_ns,
            launch.number,
            launch.stream,
            tuple(entry.request.id for entry in taken),
            launch.key,
            launch.reason.value,
            (units, bound, now_ns - taken[0].entered_ns),
            tuple(sorted(busy)),
            above,
            self.depth,
            self.state_digest,
        )

    def _tell_hold(
        self, group: BatchGroup, until_ns: int, stream: int, now_ns: int, busy: Collection[str]
    ) -> None:
        """Record a hold once for each waiting time."""
        head = group.head()
        if head is None or group.told_until == until_ns:
            return
        group.told_until = until_ns
        if self.record is not None:
            self.record(
                Held(now_ns, stream, head.request.id, until_ns, len(group), group.units, tuple(sorted(busy)))
            )

    def _expire(self, now_ns: int, most: int | None = None) -> None:
        left = self.depth if most is None else most
        while left > 0 and (first := self.queue.first_expiry()) is not None and first[0] <= now_ns:
            left -= 1
            due_ns, entry = first
            self.queue.leave(entry, selected=False)
            self._expired.append(entry.request)
            if self.record is not None:
                cause = "start_by" if entry.request.start_by_ns == due_ns else "deadline"
                self.record(Expiry(now_ns, entry.request.id, cause, due_ns, self.depth))

    def _verify_stream(self, stream: int) -> None:
        if not 0 <= stream < self.streams:
            raise StreamUnknown(stream=stream, streams=self.streams)

    def _verify_new(self, request_id: str) -> None:
        if self.queue.find(request_id) is not None:
            raise DuplicateRequest(request_id=request_id, state="queued")
        if request_id in self._launch_of:
            raise DuplicateRequest(request_id=request_id, state="running")

    def _find_launch(self, number: int) -> Launch:
        launch = self.running.get(number)
        if launch is None:
            raise LaunchUnknown(launch=number)
        return launch


def _reason(group: BatchGroup) -> SelectionReason:
    head = group.head()
    if head is None or head.request.batch is None:
        return SelectionReason.ALONE
    return SelectionReason.FILLED if group.is_filled() else SelectionReason.DUE
