"""What writes beside the server: bounded, on threads of its own, and never in the way (X-45, X-72)."""

from __future__ import annotations

import asyncio
import io
import json
import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from plumbline.contracts.clock import MonotonicClock
from plumbline.contracts.identity import LOCAL_PRINCIPAL
from plumbline.contracts.inference import InferenceCall, InferenceResult, InferenceTiming, VersionRef
from plumbline.contracts.requests import RequestId, TenantId
from plumbline.serving.events.bus import EventBus
from plumbline.serving.events.refusals import SubscriberTooSlow
from plumbline.serving.observability.background import BackgroundQueue
from plumbline.serving.observability.events import WatchedEvents
from plumbline.serving.observability.exporting import ExporterRefused, load_exporter
from plumbline.serving.observability.otlp import OtlpEndpointRefused, OtlpSpanExporter
from plumbline.serving.observability.server_log import LogFormat, ServerLog, SlowRequests
from plumbline.serving.observability.spans import Span
from plumbline.serving.observability.trace_files import TraceFiles
from plumbline.serving.observability.tracing import RequestTracer
from plumbline.telemetry.points import (
    EventRecord,
    EventWait,
    TensorAllocation,
    TensorDeallocation,
    VersionLoaded,
)
from plumbline.telemetry.trace import read_trace, verify_trace

ECHO = VersionRef(model="echo", version="1")


def test_a_consumer_that_hangs_costs_items_and_no_time() -> None:
    hold = threading.Event()
    waiting: BackgroundQueue[int] = BackgroundQueue(
        lambda batch: bool(hold.wait(30)), name="hanging", limit=4, batch=1, interval_s=0.01
    )
    offered = [waiting.offer(number, now=True) for number in range(20)]
    assert offered.count(True) <= 6
    assert waiting.dropped == offered.count(False) > 0
    assert not waiting.close(0.1)
    hold.set()


def test_a_consumer_that_raises_is_asked_again() -> None:
    seen: list[int] = []

    def consume(batch: Sequence[int]) -> None:
        seen.extend(batch)
        if 1 in batch:
            raise RuntimeError

    queue: BackgroundQueue[int] = BackgroundQueue(consume, name="raising", batch=1, interval_s=0.01)
    for number in (1, 2, 3):
        queue.offer(number, now=True)
    assert queue.close(10.0)
    assert seen == [1, 2, 3]
    assert (queue.failed, queue.done, queue.dropped) == (1, 2, 0)
    assert not queue.offer(4)


def launch(files: TraceFiles, number: int) -> None:
    event = f"launch{number}"
    shared = {"timestamp_ns": number, "request_id": "r", "stream_id": "s0", "event_id": event, "tensor": ""}
    files.emit(TensorAllocation(timestamp_ns=number, tensor="a", size_bytes=1, offset=0))
    files.emit(EventRecord(**shared))
    files.emit(EventWait(**shared))
    files.emit(TensorDeallocation(timestamp_ns=number, tensor="a"))


def test_every_file_of_a_rotated_trace_is_a_trace_by_itself_and_has_the_revisions(tmp_path: Path) -> None:
    """X-45, L3-03."""
    with TraceFiles(tmp_path, file_bytes=2_000, keep=3) as files:
        files.emit(VersionLoaded(timestamp_ns=0, version="m@1", digest="d1", revision="r1"))
        for number in range(1, 60):
            launch(files, number)
    found = sorted(tmp_path.iterdir())
    assert len(found) == 3
    assert found[-1].name > "trace-000003.jsonl"
    for path in found:
        points = read_trace(path.read_text().splitlines())
        verify_trace(points)
        assert points[0] == VersionLoaded(timestamp_ns=0, version="m@1", digest="d1", revision="r1")
        assert path.stat().st_size < 3_000
    files.emit(TensorDeallocation(timestamp_ns=1, tensor="a"))
    assert files.lost == 1


def test_a_launch_that_is_over_is_in_the_file_before_it_is_closed(tmp_path: Path) -> None:
    files = TraceFiles(tmp_path)
    launch(files, 1)
    assert len((tmp_path / "trace-000001.jsonl").read_text().splitlines()) == 4
    files.close()
    files.close()


def test_a_trace_that_cannot_be_written_is_counted_and_breaks_nothing(tmp_path: Path) -> None:
    files = TraceFiles(tmp_path / "gone")
    launch(files, 1)
    assert files.lost == 4
    files.close()


def test_lines_of_the_log_are_one_object_each_and_never_longer_than_they_may_be() -> None:
    stream = io.StringIO()
    log = ServerLog(stream, LogFormat.JSON, MonotonicClock(), {"run": "x"})
    log.happened("worker.lost", "w0", None, {"reason": "exit\ncode 1", "generation": 2})
    log.happened("task.succeeded", "t1", TenantId("a"), {})
    log.happened("task.failed", "t2", TenantId("secret-tenant"), {"error": "e" * 9_000})
    log.close(10.0)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["event"] for line in lines] == ["worker.lost", "task.failed"]
    assert lines[0]["level"] == "error"
    assert lines[0]["run"] == "x"
    assert len(lines[1]["error"]) == 500
    assert "secret-tenant" not in stream.getvalue()


def test_a_text_line_holds_no_control_characters() -> None:
    stream = io.StringIO()
    log = ServerLog(stream, LogFormat.TEXT, MonotonicClock())
    log.write("worker.lost", "w0\nforged", reason="\x1b[2J")
    log.close(10.0)
    (line,) = stream.getvalue().splitlines()
    assert "worker.lost" in line
    assert "\x1b" not in line


def test_a_log_with_a_limit_ends_there() -> None:
    stream = io.StringIO()
    log = ServerLog(stream, LogFormat.JSON, MonotonicClock(), limit_bytes=300)
    for number in range(50):
        log.write("event", str(number))
    log.close(10.0)
    assert len(stream.getvalue()) <= 300
    counts = log.counts()
    assert counts["failed"] > 0
    assert counts["done"] + counts["failed"] == 50


def test_slow_requests_are_told_of_up_to_a_rate_and_the_rest_is_counted() -> None:
    stream = io.StringIO()
    log = ServerLog(stream, LogFormat.JSON, MonotonicClock())
    slow = SlowRequests(log, bound_ns=1_000, burst=2)
    call = InferenceCall(id=RequestId("r"), model="secret-model", arrived_ns=1, parameters={"p": "secret"})
    for now_ns in (500, 5_000, 5_001, 5_002, 5_003, 2_000_000_000):
        slow(call, None, now_ns)
    log.close(10.0)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line.get("untold") for line in lines] == [None, None, 2]
    assert "secret" not in stream.getvalue()


class Collected:
    """A span exporter that keeps them."""

    def __init__(self) -> None:
        self.spans: list[Span] = []

    def export(self, spans: Sequence[Span]) -> None:
        self.spans.extend(spans)

    def close(self) -> None:
        return


def test_a_caller_that_does_not_sample_gets_no_spans_and_no_queue_grows() -> None:
    exporter = Collected()
    tracer = RequestTracer(exporter, MonotonicClock(), lambda ref: ("d", "r"))
    for flags in ("00", "01"):
        traceparent = f"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}"
        call = InferenceCall(id=RequestId(flags), model="echo", arrived_ns=5, traceparent=traceparent)
        timing = InferenceTiming(queued_ns=6, launched_ns=7, finished_ns=8)
        tracer.finished(call, InferenceResult(id=call.id, served_by=ECHO, outputs={}, timing=timing), 9)
    tracer.close(10.0)
    assert {span.attributes["plumbline.request.id"] for span in exporter.spans if span.is_root} == {"01"}
    assert tracer.counts() == {"done": 2, "failed": 0, "dropped": 0}


@pytest.mark.parametrize("kind", ["dead", "hanging", "refusing"])
def test_spans_that_nobody_takes_are_counted_as_failed_within_the_time(kind: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        if kind == "dead":
            listener.close()
        if kind == "refusing":
            threading.Thread(target=refuse, args=(listener,), daemon=True).start()
        exporter = OtlpSpanExporter(f"http://127.0.0.1:{port}", {"service.name": "test"}, timeout_s=0.5)
        tracer = RequestTracer(exporter, MonotonicClock(), lambda ref: ("", ""))
        tracer.finished(InferenceCall(id=RequestId("r"), model="m", arrived_ns=5), None, 9)
        tracer.close(20.0)
    assert tracer.counts() == {"done": 0, "failed": 1, "dropped": 0}


def refuse(listener: socket.socket) -> None:
    """Answer one request of HTTP with 400."""
    connection, _ = listener.accept()
    with connection:
        connection.recv(65536)
        connection.sendall(
            b"HTTP/1.1 400 Bad Request\r\ncontent-length: 6\r\nconnection: close\r\n\r\nsecret"
        )


@pytest.mark.parametrize("address", ["", "localhost:4318", "ftp://h/", "http://", "http://h:99999"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(OtlpEndpointRefused):
        OtlpSpanExporter(address, {})


@pytest.mark.parametrize(
    "name", ["", "json", "json:", "no_such_module:X", "json:Nothing", "json:JSONDecoder"]
)
def test_an_exporter_that_is_none_is_refused_by_name(name: str) -> None:
    """X-72."""
    with pytest.raises(ExporterRefused):
        load_exporter(name)


def test_watched_events_arrive_as_they_would_and_a_lost_subscriber_is_counted() -> None:
    told: list[str] = []
    dropped: list[int] = []

    async def work() -> None:
        bus = EventBus(MonotonicClock(), waiting=2)
        events: Any = WatchedEvents(bus, (lambda kind, *_: told.append(kind),), lambda: dropped.append(1))
        stream = events.subscribe(LOCAL_PRINCIPAL)
        for number in range(4):
            events.publish(f"kind.{number}", "subject", field=number)
        await asyncio.sleep(0)
        assert (await anext(stream)).kind == "kind.0"
        assert (await anext(stream)).kind == "kind.1"
        with pytest.raises(SubscriberTooSlow):
            await anext(stream)
        closed = events.subscribe(LOCAL_PRINCIPAL)
        await closed.aclose()
        assert bus.subscribers == 0

    asyncio.run(work())
    assert told == [f"kind.{number}" for number in range(4)]
    assert dropped == [1]
