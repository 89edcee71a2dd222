import dataclasses
import json

import pytest

from plumbline.telemetry.perfetto import to_perfetto
from plumbline.telemetry.points import (
    POINT_CLASSES,
    CompileViolation,
    Completion,
    EventRecord,
    EventWait,
    KernelLaunch,
    PolicySelection,
    RequestSubmitted,
    StreamAllocation,
    TensorAllocation,
    TensorDeallocation,
    TracePoint,
    VersionLoaded,
    to_document,
)
from plumbline.telemetry.sinks import NULL_SINK, JsonLinesSink, MemorySink
from plumbline.telemetry.trace import TraceInvalidError, read_trace, verify_trace


def example() -> list[TracePoint]:
    return [
        RequestSubmitted(timestamp_ns=100, request_id="r1", priority=5, deadline_ns=9_000),
        PolicySelection(
            timestamp_ns=150, request_id="r1", policy="fifo", reason="oldest", priority=5, queue_depth=1
        ),
        StreamAllocation(timestamp_ns=160, request_id="r1", stream_id="s0"),
        TensorAllocation(timestamp_ns=170, tensor="x", size_bytes=256, offset=0),
        KernelLaunch(timestamp_ns=200, request_id="r1", stream_id="s0", operator="gemm", duration_ns=2_000),
        EventRecord(timestamp_ns=2_300, request_id="r1", stream_id="s0", event_id="e0", tensor="x"),
        EventWait(timestamp_ns=2_400, request_id="r1", stream_id="s1", event_id="e0", tensor="x"),
        KernelLaunch(timestamp_ns=2_500, request_id="r1", stream_id="s1", operator="relu"),
        TensorDeallocation(timestamp_ns=2_900, tensor="x"),
        VersionLoaded(timestamp_ns=3_000, version="m@1", digest="d1", revision="r1"),
        CompileViolation(timestamp_ns=3_050, version="m@2"),
        Completion(timestamp_ns=3_100, request_id="r1", latency_ns=3_000),
    ]


def test_every_point_round_trips_through_a_file(tmp_path):
    """X-37..X-45: the schema of each trace point."""
    points = example()
    assert {point.event for point in points} == set(POINT_CLASSES)
    path = tmp_path / "trace.jsonl"
    with JsonLinesSink(path) as sink:
        for point in points:
            sink.emit(point)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert read_trace(lines) == points
    assert all({"schema", "event", "timestamp"} <= json.loads(line).keys() for line in lines)
    verify_trace(points)


def test_the_golden_line_of_a_launch_is_stable():
    """X-40: everything serialised has a golden text."""
    assert to_document(example()[4]) == {
        "schema": 1,
        "event": "kernel_launch",
        "timestamp": 200,
        "request_id": "r1",
        "stream_id": "s0",
        "operator": "gemm",
        "duration_ns": 2000,
    }


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "not JSON"),
        ("[1]", "schema"),
        ('{"schema":2,"event":"completion"}', "schema"),
        ('{"schema":1,"event":"other"}', "unknown event"),
        ('{"schema":1,"event":"deallocation","timestamp":1}', "lacks tensor"),
        ('{"schema":1,"event":"deallocation","timestamp":"1","tensor":"x"}', "timestamp_ns"),
        ('{"schema":1,"event":"deallocation","timestamp":true,"tensor":"x"}', "timestamp_ns"),
        ('{"schema":1,"event":"deallocation","timestamp":1,"tensor":"x","data":[1]}', "no field 'data'"),
        ('{"schema":1,"event":"deallocation","timestamp":1,"tensor":"' + "x" * 2000 + '"}', "tensor"),
    ],
)
def test_a_line_outside_the_schema_is_refused(line, reason):
    """X-45; a payload has no field to travel in."""
    with pytest.raises(TraceInvalidError, match=reason):
        read_trace([line])


def without(index: int) -> list[TracePoint]:
    points = example()
    del points[index]
    return points


@pytest.mark.parametrize(
    ("points", "reason"),
    [
        (without(5), "before it was recorded"),
        (without(8), "never deallocated"),
        (without(3), "before it was allocated"),
        ([*example()[:-1], dataclasses.replace(example()[-1], latency_ns=1)], "latency 1 should be 3000"),
        ([dataclasses.replace(example()[1], reason=" ")], "must say why"),
        ([example()[3], example()[3]], "allocated twice"),
    ],
)
def test_a_trace_that_contradicts_itself_is_refused(points, reason):
    """X-38, X-41, X-42, X-44."""
    with pytest.raises(TraceInvalidError, match=reason):
        verify_trace(points)


def test_perfetto_export_has_slices_flows_and_counters():
    """X-45: offline analysis."""
    document = to_perfetto(example())
    phases = [event["ph"] for event in document["traceEvents"]]
    assert phases.count("X") == 1
    assert phases.count("s") == phases.count("f") == 1
    assert [e["args"]["live"] for e in document["traceEvents"] if e["ph"] == "C"] == [256, 0]
    slice_ = next(e for e in document["traceEvents"] if e["ph"] == "X")
    assert (slice_["ts"], slice_["dur"]) == (0.1, 2.0)
    json.dumps(document)


def test_perfetto_export_of_nothing_is_an_empty_picture():
    assert len(to_perfetto([])["traceEvents"]) == 1


def test_the_null_sink_keeps_nothing_and_the_memory_sink_everything():
    sink = MemorySink()
    for point in example():
        NULL_SINK.emit(point)
        sink.emit(point)
    assert sink.points == example()
