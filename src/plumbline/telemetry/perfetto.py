"""Trace points as Chrome trace JSON, which Perfetto opens: one row a stream, counters for memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from plumbline.telemetry.points import (
    Completion,
    EventRecord,
    EventWait,
    KernelLaunch,
    TensorAllocation,
    TensorDeallocation,
    TracePoint,
    to_document,
)

_PROCESS = 1
_REQUEST_ROW = 0


def to_perfetto(points: Sequence[TracePoint]) -> dict[str, Any]:
    """A Chrome trace document. Times are microseconds after the first point.

    Launches of known duration become slices, others instants; a wait is tied to its record by a flow arrow; a
    completion becomes an asynchronous slice as long as its latency; allocations drive a counter.
    """
    start_ns = min((point.timestamp_ns for point in points), default=0)
    streams = sorted({s for point in points if (s := getattr(point, "stream_id", None)) is not None})
    rows = {stream: number for number, stream in enumerate(streams, start=1)}
    events = [_row_name(_REQUEST_ROW, "requests"), *(_row_name(row, name) for name, row in rows.items())]
    sizes: dict[str, int] = {}
    for point in points:
        row = rows.get(getattr(point, "stream_id", ""), _REQUEST_ROW)
        events.extend(_events_of(point, row, start_ns, sizes))
    return {"traceEvents": events, "displayTimeUnit": "ns"}


def _row_name(row: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": "thread_name", "pid": _PROCESS, "tid": row, "args": {"name": name}}


def _events_of(point: TracePoint, row: int, start_ns: int, sizes: dict[str, int]) -> list[dict[str, Any]]:
    time_us = (point.timestamp_ns - start_ns) / 1000
    place: dict[str, Any] = {"pid": _PROCESS, "tid": row, "ts": time_us}
    facts = {k: v for k, v in to_document(point).items() if k not in ("schema", "timestamp")}
    match point:
        case KernelLaunch(operator=operator, duration_ns=int(duration_ns)):
            return [{"ph": "X", "name": operator, "dur": duration_ns / 1000, "args": facts, **place}]
        case KernelLaunch(operator=operator):
            return [{"ph": "i", "name": operator, "s": "t", "args": facts, **place}]
        case EventRecord(event_id=event_id):
            return [_instant(f"record {event_id}", facts, place), _flow("s", event_id, place)]
        case EventWait(event_id=event_id):
            return [_instant(f"wait {event_id}", facts, place), _flow("f", event_id, place)]
        case Completion(request_id=request_id, latency_ns=latency_ns):
            slice_ = {"cat": "request", "name": "request", "id": request_id, **place}
            return [
                {"ph": "b", **slice_, "ts": time_us - latency_ns / 1000, "args": facts},
                {"ph": "e", **slice_},
            ]
        case TensorAllocation(tensor=tensor, size_bytes=size_bytes):
            sizes[tensor] = size_bytes
        case TensorDeallocation(tensor=tensor):
            sizes.pop(tensor, None)
        case _:
            return [_instant(point.event, facts, place)]
    return [{"ph": "C", "name": "arena bytes", "args": {"live": sum(sizes.values())}, **place}]


def _instant(name: str, facts: dict[str, Any], place: dict[str, Any]) -> dict[str, Any]:
    return {"ph": "i", "name": name, "s": "t", "args": facts, **place}


def _flow(phase: str, event_id: str, place: dict[str, Any]) -> dict[str, Any]:
    return {"ph": phase, "cat": "dependency", "name": event_id, "id": event_id, **place}
