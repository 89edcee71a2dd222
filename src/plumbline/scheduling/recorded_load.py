"""The load that a log recorded: who arrived when, what ran how long, on how many streams and instances."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from statistics import median_low

from plumbline.contracts.records import Cancellation, Record, Refusal, Snapshot
from plumbline.contracts.requests import RequestId
from plumbline.scheduling.facts import request_from_facts
from plumbline.scheduling.request import ExecutionRequest
from plumbline.scheduling.snapshot import read_core_state
from plumbline.scheduling.spans import LogSpans, RequestSpan, read_spans

__all__ = ["OfferedRequest", "RecordedLoad", "recorded_load"]

UNKNOWN_DURATION_NS = 1_000_000
"""Where nothing of a graph ran and nobody calibrated it: 1 ms."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferedRequest:
    """A request of the load.

    Attributes:
        request: as it was; a later pass of the same id has `#2`, `#3` ... at its id.
        at_ns: when it arrives; for a later pass: how long after the end of the pass before it.
        after: id of the pass before it, or None.
        duration_ns: of the recorded launch that it was part of; the median of its graph where it never ran.
        cancelled_ns: when it was cancelled, or None.
    """

    request: ExecutionRequest
    at_ns: int
    after: RequestId | None
    duration_ns: int
    cancelled_ns: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedLoad:
    """Everything a simulation needs.

    Attributes:
        offered: requests in the order of their records.
        streams: indices of the streams that had a launch (a log does not tell which others could have had
            one), and of those that requests are bound to.
        capacity: of the queue.
        policy: that the log was recorded with.
        instances: launches of a graph that may go on at once; all streams where a graph is absent.
    """

    offered: tuple[OfferedRequest, ...]
    streams: tuple[int, ...]
    capacity: int
    policy: str
    instances: dict[str, int]


def recorded_load(records: Iterable[Record]) -> RecordedLoad:
    """The load within the records.

    Requests that a full queue turned away are part of the load; those that admission refused are not.

    Raises:
        SnapshotRefused: the snapshot at the begin is not one.
    """
    found = list(records)
    spans = read_spans(record for record in found if not _is_admission_refusal(record))
    bound = {span.facts.stream for span in spans.requests if span.facts.stream is not None}
    streams = tuple(sorted({launch.stream for launch in spans.launches} | bound)) or (0,)
    policy, capacity = "", 0
    for record in found:
        if isinstance(record, Snapshot):
            state = read_core_state(record.state)
            policy, capacity = state.policy, state.capacity
            break
    return RecordedLoad(
        offered=_offered(spans, found),
        streams=streams,
        capacity=capacity or max(1, len(spans.requests)),
        policy=policy,
        instances=_instances(spans),
    )


def _is_admission_refusal(record: Record) -> bool:
    return isinstance(record, Refusal) and record.reason != "queue_full"


def _offered(spans: LogSpans, records: list[Record]) -> tuple[OfferedRequest, ...]:
    durations = _durations(spans)
    cancelled = {r.request: r.time_ns for r in records if isinstance(r, Cancellation)}
    passes: dict[str, list[RequestSpan]] = defaultdict(list)
    offered = []
    for span in spans.requests:
        before = passes[span.facts.id]
        before.append(span)
        request = request_from_facts(span.facts)
        after, at_ns = None, span.arrived_ns
        if len(before) > 1:
            previous = before[-2]
            after = RequestId(_pass_id(span.facts.id, len(before) - 1))
            at_ns = max(0, span.arrived_ns - (previous.ended_ns or span.arrived_ns))
            request = replace(request, id=RequestId(_pass_id(span.facts.id, len(before))))
        launch = span.launch
        known = launch is not None and launch.ended_ns is not None
        offered.append(
            OfferedRequest(
                request=request,
                at_ns=at_ns,
                after=after,
                duration_ns=launch.own_ns if known and launch is not None else durations.of(request),
                cancelled_ns=cancelled.get(span.facts.id),
            )
        )
    return tuple(offered)


def _pass_id(request_id: str, number: int) -> str:
    return request_id if number == 1 else f"{request_id}#{number}"


@dataclass(frozen=True, slots=True)
class _Durations:
    medians: dict[str, int]

    def of(self, request: ExecutionRequest) -> int:
        return self.medians.get(request.graph) or request.cost_bound_ns or UNKNOWN_DURATION_NS


def _durations(spans: LogSpans) -> _Durations:
    seen: dict[str, list[int]] = defaultdict(list)
    for launch in spans.launches:
        if launch.ended_ns is not None:
            seen[launch.graph].append(launch.own_ns)
    return _Durations({graph: median_low(values) for graph, values in seen.items()})


def _instances(spans: LogSpans) -> dict[str, int]:
    """Most launches of a graph that went on at once, where the graph was ever busy."""
    busy = {graph for launch in spans.launches for graph in launch.busy}
    result = {}
    for graph in busy:
        events = []
        for launch in spans.launches:
            if launch.graph == graph and launch.ended_ns is not None:
                events += [(launch.selected_ns, 1), (launch.ended_ns, -1)]
        most = running = 0
        for _, change in sorted(events):
            running += change
            most = max(most, running)
        result[graph] = max(1, most)
    return result
