"""The parts of the serving benchmarks that decide: what counts as flat, as explained, as faster."""

from __future__ import annotations

import http.server
import os
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from plumbline.contracts.records import Breach, Promise
from plumbline.product.bench.serving.comparison import verdicts
from plumbline.product.bench.serving.load import run_paced
from plumbline.product.bench.serving.mixed import unexplained
from plumbline.product.bench.serving.mixed_load import CLASSES, LoadReport, fill_up, plan_arrivals
from plumbline.product.bench.serving.processes import ServerNotReady, ServerProcess, process_tree
from plumbline.product.bench.serving.soak import Sample, SoakLimits, judge, read_sample, slope_per_minute
from plumbline.product.bench.serving.targets import ask, questions


def samples(process: str, rss_per_s: float = 0.0, until_s: int = 300) -> list[Sample]:
    return [
        Sample(
            at_s=float(at_s), process=process, rss_bytes=10**8 + int(rss_per_s * at_s), handles=20, threads=9
        )
        for at_s in range(0, until_s, 5)
    ]


def test_flat_samples_of_gateway_and_worker_pass() -> None:
    assert judge([*samples("gateway"), *samples("worker 1")], [(0.0, 10)], SoakLimits())[0] == []


def test_memory_that_grows_is_named_with_its_process() -> None:
    flaws, slopes = judge([*samples("gateway"), *samples("worker 1", 10_000.0)], [], SoakLimits())
    assert len(flaws) == 1
    assert flaws[0].startswith("worker 1: rss_bytes grow")
    assert slopes["worker 1"]["rss_bytes"] == pytest.approx(600_000, rel=0.01)


def test_a_worker_that_was_replaced_is_no_pass() -> None:
    flaws, _ = judge([*samples("gateway"), *samples("worker 1", until_s=100)], [], SoakLimits())
    assert flaws == ["worker 1 was not there all the time"]


def test_logs_beyond_their_bound_are_no_pass() -> None:
    found = [*samples("gateway"), *samples("worker 1")]
    assert judge(found, [(0.0, 5), (5.0, 2**40)], SoakLimits())[0] == [
        f"{2**40} bytes on disk, limit {96 << 20}"
    ]


def test_a_slope_is_per_minute() -> None:
    assert slope_per_minute([(0.0, 1.0), (30.0, 2.0), (60.0, 3.0)]) == pytest.approx(2.0)


def test_a_running_process_has_memory_handles_and_threads() -> None:
    found = read_sample(os.getpid(), 1.0, os.getpid())
    assert found is not None
    assert found.process == "gateway"
    assert found.rss_bytes > 1 << 20
    assert found.handles > 2
    assert found.threads >= 1


def test_a_late_promise_without_breach_is_unexplained() -> None:
    records = [Promise(1, "a", 5, {}), Promise(1, "b", 5, {}), Breach(9, "b", 4, "overrun", {})]
    assert unexplained(records, {"a", "b", "best-effort"}) == {"a"}


def test_arrivals_ask_for_their_shares_of_the_stream() -> None:
    costs = {"echo": 50_000, "random-cnn": 400_000, "minilm": 2_000_000}
    arrivals = plan_arrivals(costs, CLASSES, 200.0, seed=3)
    asked_s = sum(costs[each.model] + 150_000 for _, each in arrivals) / 1e9
    assert asked_s / 200.0 == pytest.approx(1.0, rel=0.05)
    assert [at_s for at_s, _ in arrivals] == sorted(at_s for at_s, _ in arrivals)
    assert sum(each.share for each in CLASSES) == pytest.approx(1.0)
    assert arrivals == plan_arrivals(costs, CLASSES, 200.0, seed=3)


def test_requests_without_deadlines_fill_the_stream_up() -> None:
    """What was measured beside what was wanted decides; classes with deadlines stay as they are."""
    measured = {"alarm": 0.10, "search": 0.30, "index": 0.20, "probe": 0.05}
    filled = {each.name: each.share for each in fill_up(CLASSES, measured, 0.9)}
    before = {each.name: each.share for each in CLASSES}
    assert (filled["alarm"], filled["search"]) == (before["alarm"], before["search"])
    assert filled["index"] == pytest.approx(before["index"] * 2.0)
    assert filled["probe"] == pytest.approx(before["probe"] * 2.0)
    assert fill_up(CLASSES, {"alarm": 0.4}, 0.9) == CLASSES


def test_a_report_says_what_share_of_the_stream_each_class_had() -> None:
    """Requests that share a launch do not count it twice."""
    report = LoadReport(wall_ns=1000, launches={1: (0, 300, "index"), 2: (300, 400, "alarm")})
    assert report.shares == {"index": 0.3, "alarm": 0.1}
    assert report.utilisation == pytest.approx(0.4)


def test_ours_is_compared_with_the_best_peer_of_each_measure() -> None:
    def row(server: str, rate: float, p50: float, p99: float) -> dict[str, object]:
        return {"phase": "p", "server": server, "requests_per_s": rate, "p50_ms": p50, "p99_ms": p99}

    found = verdicts([row("plumbline", 900, 1.0, 2.0), row("a", 300, 4.0, 5.0), row("b", 200, 2.0, 8.0)])
    assert found == [
        {"phase": "p", "best_peer": "a", "requests_ratio": 3.0, "p50_ratio": 0.5, "p99_ratio": 0.4}
    ]


class Echo(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = b'{"output": [[1.0, 2.0]]}'
        self.send_response(500 if self.path == "/minilm" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Silent."""


def test_paced_load_counts_answers_and_errors_apart() -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        port, asked = server.server_port, questions(is_v2=False)
        good = run_paced(port, asked["echo"], 50.0, 2, 0.4)
        bad = run_paced(port, asked["minilm"], 50.0, 2, 0.2)
        assert np.array_equal(ask(port, asked["echo"]), [1.0, 2.0])
    finally:
        server.shutdown()
        server.server_close()
    assert good.errors == 0
    assert 0 < good.p50_ms <= good.p99_ms
    assert bad.errors == 10
    assert bad.p50_ms == 0.0


def is_alive(pid: int, started: str) -> bool:
    """Whether this process runs: neither gone, nor a zombie, nor another one of the same number."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return fields[0] not in "ZX" and fields[19] == started


def test_a_stopped_server_leaves_no_process_behind(tmp_path: Path) -> None:
    program = (
        "import subprocess, time\nsubprocess.Popen(['sleep', '60'], start_new_session=True)\ntime.sleep(60)"
    )
    server = ServerProcess("peer", [sys.executable, "-c", program], {}, tmp_path / "log")
    server.wait_until(lambda: "" if len(process_tree(server.pid)) == 2 else "alone", 60.0)
    started = process_tree(server.pid)
    server.stop()
    until = time.monotonic() + 60.0
    while alive := [pid for pid in started if is_alive(pid, started[pid])]:  # a killed process ends soon
        assert time.monotonic() < until, alive
        time.sleep(0.01)


def test_a_server_that_ends_at_once_is_refused_with_what_it_said(tmp_path: Path) -> None:
    server = ServerProcess("peer", [sys.executable, "-c", "print('no model')"], {}, tmp_path / "log")
    with pytest.raises(ServerNotReady, match="no model"):
        server.wait_until(lambda: "not yet", 60.0)
    server.stop()
