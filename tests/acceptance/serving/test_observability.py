"""What a served process tells about itself, and what it does not (L4-32, L4-46, X-37..X-47, X-72, L3-03)."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.parser import text_string_to_metric_families

from plumbline.product.cli import main as plumb
from plumbline.serving.decisions import LoggedDecisions
from plumbline.serving.models.routing import RouteReason

DOCUMENTED = Path(__file__).parents[3] / "docs" / "reference" / "metrics.md"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

TOY_EXPORTERS = """
import json
import pathlib
import time

PLACE = pathlib.Path(__file__).parent


class Toy:
    def export_metrics(self, snapshot):
        names = sorted({sample.name for family in snapshot.families for sample in family.samples})
        (PLACE / "toy.json").write_text(json.dumps(names))


class Broken:
    def export_metrics(self, snapshot):
        raise RuntimeError("always")


class Hanging:
    def export_metrics(self, snapshot):
        time.sleep(3600)
"""


SAY_CLASS = """
class Say:
    inputs = {"t": ("BYTES", (-1,))}
    outputs = {"s": ("BYTES", (-1,))}

    def setup(self, context):
        pass

    def run(self, inputs, parameters):
        return {"s": inputs["t"]}
"""


class Receiver:
    """Takes OTLP over HTTP on loopback. `spans` grows."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.resources: list[dict[str, str]] = []
        self.bodies: list[bytes] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.take(body)
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                return

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.http.server_port}"
        self.thread = threading.Thread(target=self.http.serve_forever, daemon=True)
        self.thread.start()

    def take(self, body: bytes) -> None:
        self.bodies.append(body)
        request = ExportTraceServiceRequest.FromString(body)
        for resource in request.resource_spans:
            self.resources.append(attributes(resource.resource))
            for scope in resource.scope_spans:
                self.spans.extend(scope.spans)

    def of(self, request_id: str) -> dict[str, Any]:
        """The spans of the trace of one request, by name; empty until its root came."""
        roots = [s for s in self.spans if attributes(s).get("plumbline.request.id") == request_id]
        if not roots:
            return {}
        return {s.name: s for s in self.spans if s.trace_id == roots[0].trace_id}

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()


def attributes(holder: Any) -> dict[str, Any]:
    found = {}
    for pair in holder.attributes:
        found[pair.key] = getattr(pair.value, pair.value.WhichOneof("value"))
    return found


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


def eventually(look: Callable[[], Any], timeout_s: float = 60.0) -> Any:
    end = time.monotonic() + timeout_s
    while not (found := look()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)
    return found


def metrics(server: Any) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every series of the exposition."""
    text = server.get("/metrics")[2].decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def server_series(exposition: Path) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every series of a kept exposition."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(exposition.read_text())
        for sample in family.samples
    }


def value(found: dict[Any, float], name: str, **labels: str) -> float:
    return found.get((name, tuple(sorted(labels.items()))), 0.0)


def documented_series() -> set[str]:
    return set(re.findall(r"^\| `(plumbline_\w+)`", DOCUMENTED.read_text(encoding="utf-8"), flags=re.M))


def test_counters_move_with_real_load_and_every_series_is_documented(server: Any) -> None:
    """L4-32: the exposition parses, counters move, and what is not known is absent."""
    server.echo(1.0)
    before = metrics(server)
    for number in range(3):
        assert server.echo(float(number))[0] == 200
    assert server.post("/v2/models/nothing-of-mine/infer", {"inputs": []})[0] in (400, 404)
    after = metrics(server)

    def moved(name: str, **labels: str) -> float:
        return value(after, name, **labels) - value(before, name, **labels)

    assert moved("plumbline_requests_arrived_total", protocol="rest") >= 3
    version = {"model": "echo", "version": "1"}
    assert moved("plumbline_request_duration_seconds_count", protocol="rest", **version) == 3
    assert moved("plumbline_request_duration_seconds_sum", protocol="rest", **version) > 0
    for part in ("arrival_duration_seconds", "queue_duration_seconds", "launch_duration_seconds"):
        assert moved(f"plumbline_{part}_count", **version) == 3
    assert moved("plumbline_launch_requests_bucket", le="1", **version) == 3
    assert moved("plumbline_worker_steps_total", worker="w0") >= 3
    assert moved("plumbline_routes_total", model="echo", reason=RouteReason.ONLY.value) == 3
    assert value(after, "plumbline_version_memory_bytes", **version) > 0
    assert value(after, "plumbline_process_resident_bytes") > 1e6
    assert value(after, "plumbline_worker_resident_bytes", worker="w0") > 1e6
    assert not any("nothing-of-mine" in str(series) for series in after)
    assert value(after, "plumbline_worker_memory_budget_bytes", worker="w0") > 1e6
    families = {re.sub(r"_(bucket|sum|count|created)$", "", name) for name, _ in after}
    assert families - documented_series() == set()


def test_spans_follow_a_request_with_one_clock_below_the_span_of_its_caller(
    start_server: Any, receiver: Receiver
) -> None:
    """L3-03, X-46: REST and gRPC; ids, version, digest, worker, launch and the record of the decision."""
    server = start_server("--load", "echo", "--otlp", receiver.address, "--benchmark", "b-1")
    server.wait_ready()
    assert server.echo(1.0, **{"x-request-id": "spans-rest", "traceparent": PARENT})[0] == 200
    ask_grpc(server, "spans-grpc", PARENT.replace("0af7", "0af8"))
    assert server.post("/v2/models/echo/infer", {"inputs": []}, **{"x-request-id": "spans-bad"})[0] == 400
    for protocol, trace in (("rest", "0af7"), ("grpc", "0af8")):
        names = {"infer", "arrival", "queue", "batch", "answer", "launch"}
        found = eventually(
            lambda request=f"spans-{protocol}", names=names: (
                of if names <= (of := receiver.of(request)).keys() else None
            )
        )
        root = found["infer"]
        mine = attributes(root)
        assert mine["plumbline.protocol"] == protocol
        assert root.trace_id.hex() == PARENT.split("-")[1].replace("0af7", trace)
        assert root.parent_span_id.hex() == PARENT.split("-")[2]
        assert mine["plumbline.model"] == "echo"
        assert mine["plumbline.version"] == "1"
        assert len(mine["plumbline.digest"]) >= 64
        assert mine["plumbline.worker"] == "w0"
        assert mine["plumbline.batch.size"] == 1
        assert re.fullmatch(r"gateway/routes#\d+", mine["plumbline.decision_log.record"])
        children = {s.name: s for s in receiver.spans if s.parent_span_id == root.span_id}
        assert set(children) == {"arrival", "queue", "batch", "answer"}
        launch = next(s for s in receiver.spans if s.parent_span_id == children["batch"].span_id)
        assert launch.name == "launch"
        assert attributes(launch)["plumbline.launch"] == mine["plumbline.launch"]
        ends = [root.start_time_unix_nano]
        for name in ("arrival", "queue", "batch", "answer"):
            assert children[name].start_time_unix_nano == ends[-1]
            ends.append(children[name].end_time_unix_nano)
        assert ends == sorted(ends)
        assert ends[-1] == root.end_time_unix_nano
        assert abs(root.start_time_unix_nano - time.time_ns()) < 600e9
    assert receiver.resources[0]["service.name"] == "plumbline"
    assert receiver.resources[0]["plumbline.benchmark"] == "b-1"
    eventually(lambda: value(metrics(server), "plumbline_telemetry_total", what="spans", outcome="done") >= 2)
    server.terminate()


def test_the_spans_of_a_task_are_in_the_trace_of_its_submitter(start_server: Any, receiver: Receiver) -> None:
    """L4-54, X-46: the task below the caller's span, its inference below the task; without a caller it begins
    a trace of its own."""
    server = start_server("--load", "echo", "--otlp", receiver.address, "--in-process")
    server.wait_ready()
    tensor = {"name": "x", "shape": [1, 16], "datatype": "FP32", "data": [0.5] * 16}
    body = {"model": "echo", "inputs": [tensor], "cache": False}
    trace, caller_span = PARENT.split("-")[1:3]
    given = server.post("/api/v1/tasks", body, traceparent=PARENT)[2]
    alone = server.post("/api/v1/tasks", body)[2]
    assert given["trace_id"] == trace
    assert alone["trace_id"] not in {None, trace}
    for task, parent in ((given, caller_span), (alone, "")):
        spans = eventually(lambda task=task: spans_of_trace(receiver, task["trace_id"]))
        assert spans["task"].parent_span_id.hex() == parent
        assert spans["infer"].parent_span_id == spans["task"].span_id
        assert {"arrival", "queue", "batch", "launch", "answer"} <= spans.keys()
        assert spans["task"].start_time_unix_nano <= spans["infer"].start_time_unix_nano
        ended = server.get(f"/api/v1/tasks/{task['id']}")[2]
        mine = attributes(spans["task"])
        assert mine["plumbline.request.id"] == ended["request_id"]
        assert mine["plumbline.outcome"] == "ok"
        assert attributes(spans["infer"])["plumbline.request.id"] == ended["request_id"]
    server.terminate()


def spans_of_trace(receiver: Receiver, trace_id: str) -> dict[str, Any]:
    """By name, once the task and its inference came."""
    found = {s.name: s for s in receiver.spans if s.trace_id.hex() == trace_id}
    return found if {"task", "infer"} <= found.keys() else {}


def ask_grpc(server: Any, request_id: str, traceparent: str, note: str = "") -> Any:
    import grpc
    import numpy as np

    from plumbline.serving.grpc import open_inference_pb2 as pb

    request = pb.ModelInferRequest(model_name="echo", id=note)
    request.parameters["note"].string_param = note
    tensor = request.inputs.add(name="x", datatype="FP32", shape=[1, 16])
    tensor.contents.fp32_contents.extend(np.arange(16, dtype=np.float32).tolist())
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )
        metadata = (("x-request-id", request_id), ("traceparent", traceparent), ("x-note", note))
        return infer(request, timeout=60, metadata=metadata)


@pytest.mark.parametrize("kind", ["dead", "hanging"])
def test_a_receiver_that_is_gone_or_hangs_slows_nothing_and_breaks_nothing(
    start_server: Any, kind: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:  # takes connections and never answers
        port = listener.getsockname()[1]
        if kind == "dead":
            listener.close()
        server = start_server("--load", "echo", "--otlp", f"http://127.0.0.1:{port}")
        server.wait_ready()
        took_s = []
        for number in range(50):
            begin = time.monotonic()
            assert server.echo(float(number))[0] == 200
            took_s.append(time.monotonic() - begin)
        assert sorted(took_s)[25] < 5.0, "a receiver has ten seconds to answer; nobody waits for it"
        assert server.terminate() == 0


def test_exporters_of_a_strangers_module_get_metrics_and_their_failures_stay_theirs(
    start_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """X-72: one works, one raises, one never comes back."""
    (tmp_path / "toy_exporters.py").write_text(TOY_EXPORTERS)
    source = Path(__file__).parents[3] / "src"
    monkeypatch.setenv("PYTHONPATH", f"{source}:{tmp_path}")
    names = [f"toy_exporters:{name}" for name in ("Toy", "Broken", "Hanging")]
    server = start_server(
        "--load", "echo", "--metrics-interval", "0.2", *(w for n in names for w in ("--metrics-exporter", n))
    )
    server.wait_ready()
    assert server.echo(1.0)[0] == 200

    def told(name: str, outcome: str) -> float:
        what = f"exporter toy_exporters:{name}"
        return value(metrics(server), "plumbline_telemetry_total", what=what, outcome=outcome)

    eventually(lambda: told("Toy", "done") > 0 and told("Broken", "failed") > 1)
    eventually(lambda: told("Hanging", "dropped") > 0)
    eventually(lambda: "plumbline_request_duration_seconds_count" in (tmp_path / "toy.json").read_text())
    assert server.echo(1.0)[0] == 200
    assert server.terminate() == 0


def test_an_exporter_that_is_not_there_is_refused_by_name_before_anything_starts(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    models = ["--models", str(tmp_path)]
    code = plumb(["serve", *models, "--state", str(tmp_path), "--metrics-exporter", "no_such_module:Class"])
    assert code != 0
    assert "validation.metrics_exporter" in capsys.readouterr().err


@pytest.fixture(scope="module")
def exported(
    start_server: Any, repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Any, Receiver, str]]:
    """One server with everything on, which served requests that carry a secret everywhere, and ended."""
    models = tmp_path_factory.mktemp("canary")
    for name in ("echo", "scale"):
        shutil.copytree(repository / name, models / name)
    (models / "say" / "1").mkdir(parents=True)
    (models / "say" / "1" / "model.py").write_text(SAY_CLASS)
    (models / "say" / "1" / "version.toml").write_text('entry = "model.py:Say"\n')
    receiver = Receiver()
    secret = f"CANARY{secrets.token_hex(8)}"
    server = start_server(
        "--trace", "--otlp", receiver.address, "--log-format", "json", "--slow", "0.0001", "--benchmark",
        "b-46", "--allow-origin", "https://allowed.example", models=models,
    )  # fmt: skip
    server.wait_ready()
    serve_secrets(server, secret)
    exposition = server.get("/metrics")[2]
    listed = server.get("/api/v1/requests/canary-1/explain")[2]
    assert server.terminate() == 0
    (server.state / "exposition.txt").write_bytes(exposition)
    (server.state / "explained.json").write_text(json.dumps(listed))
    yield server, receiver, secret
    receiver.close()


def serve_secrets(server: Any, secret: str) -> None:
    """Requests with a secret in tensors, texts, names, parameters and header values."""
    text = {"name": "t", "shape": [1], "datatype": "BYTES", "data": [secret]}
    numbers = {"name": "x", "shape": [1, 16], "datatype": "FP32", "data": [0.0] * 16}
    scaled = {"name": "x", "shape": [2], "datatype": "FP32", "data": [2.0, 3.0]}
    headers = {
        "x-request-id": "canary-1", "user-agent": secret, "authorization": f"Bearer {secret}",
        "x-custom": secret, "traceparent": f"00-{secret}", "cookie": secret, "tracestate": f"a={secret}",
        "baggage": f"a={secret}",
    }  # fmt: skip
    body = {"id": "id-1", "inputs": [numbers], "parameters": {"note": secret}}
    assert server.post("/v2/models/echo/infer", body, **headers)[0] == 200
    body = {"inputs": [scaled], "parameters": {"note": secret}}
    assert server.post("/v2/models/scale/infer", body)[0] == 200
    thirteen = {**scaled, "data": [13.0, 1.0]}
    assert server.post("/v2/models/scale/infer", {**body, "inputs": [thirteen]})[0] == 500
    assert ask_grpc(server, "canary-grpc", secret, secret).outputs
    said = server.post("/v2/models/say/infer", {"inputs": [text]})
    assert said[0] == 200
    assert secret in json.dumps(said[2])
    for wrong in (
        server.post("/v2/models/echo/infer", {"inputs": [text]}),
        server.post("/v2/models/echo/infer", {"inputs": [{**numbers, "name": secret}]}),
        server.post("/v2/models/echo/infer", {"inputs": [{**numbers, "datatype": secret}]}),
        server.post(f"/v2/models/{secret}/infer", {"inputs": [numbers]}),
        server.post(f"/v2/models/echo/versions/{secret}/infer", {"inputs": [numbers]}),
        server.post("/v2/models/echo/infer", {"inputs": [numbers], "outputs": [{"name": secret}]}),
        server.ask(secret[:12], "/v2"),
        server.get(f"/{secret}?q={secret}"),
        server.get("/v2", accept=secret, origin=f"https://{secret}.example"),
        server.get("/api/v1/tasks", authorization=secret),
    ):
        assert wrong[0] < 500
    task = {
        "name": secret, "model": "scale", "inputs": [scaled], "parameters": {"note": secret},
        "operation": "infer", "metadata": {"note": secret},
    }  # fmt: skip
    status, _, document = server.post("/api/v1/tasks", task)
    if status == 400:
        task.pop("metadata")
        task.pop("operation")
        status, _, document = server.post("/api/v1/tasks", task)
    assert status in (200, 201, 202), document
    path = f"/api/v1/tasks/{document['id']}"
    ended = ("succeeded", "failed", "cancelled")
    eventually(lambda: (server.get(path)[2].get("state") or server.get(path)[2].get("status")) in ended)


def test_one_exported_run_has_events_metrics_traces_benchmark_id_and_source_revisions(
    exported: tuple[Any, Receiver, str],
) -> None:
    """X-46: the five, under one run id."""
    server, receiver, _ = exported
    (run,) = (server.state / "runs").iterdir()
    document = json.loads((run / "run.json").read_text())
    assert document["run"] == run.name
    assert document["benchmark"] == "b-46"
    assert {"echo@1", "scale@1"} <= {source["version"] for source in document["sources"]}
    assert all(len(source["digest"]) >= 64 for source in document["sources"])
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    assert {"worker.started", "task.succeeded"} <= {event["event"] for event in events}
    assert {event["run"] for event in events} == {run.name}
    families = list(text_string_to_metric_families((run / "metrics.prom").read_text()))
    changes = {s.labels["kind"]: s.value for f in families for s in f.samples if "kind" in s.labels}
    assert changes["task.succeeded"] == 1
    build = next(s for f in families for s in f.samples if s.name == "plumbline_build_info").labels
    assert (build["run"], build["benchmark"]) == (run.name, "b-46")
    assert receiver.resources[0]["service.instance.id"] == run.name
    lines = [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]
    told = {
        "server.ready",
        "worker.started",
        "model.ready",
        "request.slow",
        "server.draining",
        "server.drained",
    }
    assert told <= {line.get("event") for line in lines}


def test_the_trace_of_a_served_request_shows_its_steps_and_the_revision(
    exported: tuple[Any, Receiver, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """X-37..X-45, L3-03: the nine points of the trace; the tenth, its place in the queue, is in the log."""
    server, _, _ = exported
    (file,) = (server.state / "runs").glob("*/logs/w0-g1/trace-*.jsonl")
    assert plumb(["trace", "check", str(file)]) == 0, capsys.readouterr()
    points = [json.loads(line) for line in file.read_text().splitlines()]
    loaded = {p["version"]: p for p in points if p["event"] == "version_loaded"}
    assert len(loaded["echo@1"]["digest"]) >= 64
    assert "revision" in loaded["echo@1"]
    first = next(i for i, p in enumerate(points) if p.get("request_id") == "canary-1")
    own = [p for p in points[first:] if "canary-1" in p.get("request_id", "canary-1")]
    steps = [p["event"] for p in own][:9]
    assert steps == [
        "request_submitted", "policy_selection", "stream_allocation", "allocation", "kernel_launch",
        "event_record", "event_wait", "completion", "deallocation",
    ]  # fmt: skip
    explained = json.loads((server.state / "explained.json").read_text())
    assert any("chosen for launch" in line for line in explained["lines"])


def test_the_trace_says_what_the_decision_log_says_and_the_plan(exported: tuple[Any, Receiver, str]) -> None:
    """X-39, X-40, X-43: streams match the log of launches, each launch is there once, memory is planned."""
    server, _, _ = exported
    planned = {
        series: memory
        for series, memory in server_series(server.state / "exposition.txt").items()
        if series[0] == "plumbline_version_memory_bytes"
    }
    launches = 0
    for worker in ("w0-g1", "classes-w0-g1"):
        (folder,) = (server.state / "runs").glob(f"*/logs/{worker}")
        (file,) = folder.glob("trace-*.jsonl")
        points = [json.loads(line) for line in file.read_text().splitlines()]
        launches += check_trace(folder, points)
        for point in points:
            if point["event"] == "allocation":
                assert 0 <= point["size_bytes"] <= max(planned.values())
    assert launches > 4


def check_trace(folder: Path, points: list[dict[str, Any]]) -> int:
    """The points of a worker against its decision log; the number of its launches."""

    def of(event: str) -> list[dict[str, Any]]:
        return [point for point in points if point["event"] == event]

    logged = asyncio.run(LoggedDecisions(folder).timeline(10_000))
    assert len(of("kernel_launch")) == len(logged) > 0
    assert {(p["request_id"], p["stream_id"]) for p in of("stream_allocation")} == {
        (request, str(launch["stream"])) for launch in logged for request in launch["requests"]
    }
    submitted = {p["request_id"] for p in of("request_submitted")}
    assert submitted == {p["request_id"] for p in of("completion")}
    return len(logged)


def test_a_secret_of_requests_is_in_nothing_that_a_server_writes_about_itself(
    exported: tuple[Any, Receiver, str],
) -> None:
    """X-47: metrics, spans, decision logs, traces, events, server logs; the store holds the task itself."""
    server, receiver, secret = exported
    needle = secret.encode()
    files = [path for path in server.state.rglob("*") if path.is_file() and "store.sqlite" not in path.name]
    kinds = {path.suffix for path in files}
    assert {".records", ".jsonl", ".prom", ".json", ".log", ".txt"} <= kinds
    assert [path.name for path in files if needle in path.read_bytes()] == []
    assert receiver.bodies
    assert [body for body in receiver.bodies if needle in body] == []
