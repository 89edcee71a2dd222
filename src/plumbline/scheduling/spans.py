"""Records as spans of time: what each launch and each request did when. For pictures and for simulation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from plumbline.contracts.records import (
    Arrival,
    Boundary,
    Cancellation,
    Expiry,
    Finish,
    LaunchStart,
    Record,
    Refusal,
    RequestFacts,
    Segment,
    Selection,
)

__all__ = ["LaunchSpan", "LogSpans", "RequestSpan", "read_spans"]


@dataclass(slots=True, kw_only=True)
class LaunchSpan:
    """A launch. Times are absolute; `own_ns` is the time it had the stream, without interruptions."""

    number: int
    stream: int
    graph: str
    requests: tuple[str, ...]
    selected_ns: int
    began_ns: int
    ended_ns: int | None = None
    own_ns: int = 0
    busy: tuple[str, ...] = ()
    boundaries: list[int] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class RequestSpan:
    """One way of a request through the queue.

    Attributes:
        facts: what was known about it.
        arrived_ns: when it entered.
        selected_ns: when it was chosen, or None.
        ended_ns: when it ended, or None.
        outcome: `ok`, `failed`, `cancelled`, `expired`, `refused`, or empty while it goes on.
        launch: its launch, or None.
    """

    facts: RequestFacts
    arrived_ns: int
    selected_ns: int | None = None
    ended_ns: int | None = None
    outcome: str = ""
    launch: LaunchSpan | None = None


@dataclass(slots=True, kw_only=True)
class LogSpans:
    """Spans in the order of the records."""

    launches: list[LaunchSpan] = field(default_factory=list)
    requests: list[RequestSpan] = field(default_factory=list)
    depths: list[tuple[int, int]] = field(default_factory=list)
    """Time and depth of the queue, at each change."""

    @property
    def streams(self) -> int:
        """Streams that were used."""
        return max((launch.stream + 1 for launch in self.launches), default=0)


def read_spans(records: Iterable[Record]) -> LogSpans:
    """Spans of what lies within the records; what arrived before them has launches only."""
    reader = _Reader()
    for record in records:
        reader.read(record)
    return reader.spans


class _Reader:
    """Owns the spans while they are filled."""

    def __init__(self) -> None:
        self.spans = LogSpans()
        self._queued: dict[str, RequestSpan] = {}
        self._running: dict[int, LaunchSpan] = {}
        self._stacks: dict[int, list[LaunchSpan]] = {}
        self._since: dict[int, int] = {}

    def read(self, record: Record) -> None:
        """Fold one record in."""
        match record:
            case Segment(fresh=True):
                self._queued.clear()
                self._running.clear()
                self._stacks.clear()
            case Arrival():
                span = RequestSpan(facts=record.request, arrived_ns=record.time_ns)
                self._queued[record.request.id] = span
                self.spans.requests.append(span)
            case Refusal():
                self.spans.requests.append(
                    RequestSpan(
                        facts=record.request,
                        arrived_ns=record.time_ns,
                        ended_ns=record.time_ns,
                        outcome="refused",
                    )
                )
            case Selection():
                self._select(record)
            case LaunchStart() if record.launch in self._running:
                self._begin(self._running[record.launch], record.time_ns)
            case Boundary() if record.launch in self._running:
                self._running[record.launch].boundaries.append(record.time_ns)
            case Finish() if record.launch in self._running:
                self._finish(record)
            case Expiry():
                self._end(record.request, record.time_ns, "expired")
            case Cancellation(launch=None):
                self._end(record.request, record.time_ns, "cancelled")
        if isinstance(record, Arrival | Selection | Expiry | Cancellation):
            self.spans.depths.append((record.time_ns, record.depth))

    def _select(self, record: Selection) -> None:
        chosen = [span for i in record.requests if (span := self._queued.get(i)) is not None]
        launch = LaunchSpan(
            number=record.launch,
            stream=record.stream,
            graph=chosen[0].facts.graph if chosen else "",
            requests=record.requests,
            selected_ns=record.time_ns,
            began_ns=record.time_ns,
            busy=record.busy,
        )
        for span in chosen:
            span.selected_ns, span.launch = record.time_ns, launch
        self._running[record.launch] = launch
        self.spans.launches.append(launch)

    def _begin(self, launch: LaunchSpan, time_ns: int) -> None:
        launch.began_ns = time_ns
        self._account(launch.stream, time_ns)
        self._stacks.setdefault(launch.stream, []).append(launch)

    def _finish(self, record: Finish) -> None:
        launch = self._running.pop(record.launch)
        stack = self._stacks.setdefault(launch.stream, [])
        if launch in stack:
            self._account(launch.stream, record.time_ns)
            stack.remove(launch)
        else:
            launch.own_ns = record.time_ns - launch.began_ns
        launch.ended_ns = record.time_ns
        for request_id, outcome in record.outcomes:
            self._end(request_id, record.time_ns, outcome)

    def _account(self, stream: int, time_ns: int) -> None:
        """Give the time that passed on a stream to the launch that had it."""
        stack = self._stacks.setdefault(stream, [])
        if stack:
            stack[-1].own_ns += time_ns - self._since.get(stream, time_ns)
        self._since[stream] = time_ns

    def _end(self, request_id: str, time_ns: int, outcome: str) -> None:
        span = self._queued.pop(request_id, None)
        if span is not None:
            span.ended_ns, span.outcome = time_ns, outcome
