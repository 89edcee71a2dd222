"""Load on a server: wrk for a closed loop, and a paced client for equal load."""

from __future__ import annotations

import json
import selectors
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass

from plumbline.errors import ExecutionError
from plumbline.product.bench.serving.targets import Question

__all__ = [
    "LoadFigures",
    "LoadGeneratorMissing",
    "exchange",
    "quantile",
    "request_bytes",
    "run_paced",
    "run_wrk",
]

_SCRIPT = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = %s
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\\nFIGURES {"requests": %%d, "duration_us": %%d, "p50_us": %%d, "p99_us": %%d, "errors": %%d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""


@dataclass(eq=False, kw_only=True)
class LoadGeneratorMissing(ExecutionError):
    """wrk is not installed, or did not measure."""

    code = "execution.load_generator"
    owner = "product"
    template = "no load can be made: {reason}"

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadFigures:
    """What one run of load found. Latencies in milliseconds; of the paced client from the planned moment."""

    requests_per_s: float
    p50_ms: float
    p99_ms: float
    errors: int


def run_wrk(port: int, question: Question, connections: int, seconds: float) -> LoadFigures:
    """Closed loop: each connection asks again as soon as it is answered.

    Raises:
        LoadGeneratorMissing: wrk is not there, or failed.
    """
    wrk = shutil.which("wrk")
    if wrk is None:
        raise LoadGeneratorMissing(reason="wrk is not installed")
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(_SCRIPT % json.dumps(question.body.decode()))
        script.flush()
        command = [
            wrk, "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "10s", "-s",
            script.name, f"http://127.0.0.1:{port}{question.path}",
        ]  # fmt: skip
        answer = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=False)
    lines = [line for line in answer.stdout.splitlines() if line.startswith("FIGURES ")]
    if not lines:
        raise LoadGeneratorMissing(reason=f"wrk said {(answer.stderr or answer.stdout)[-200:]!r}")
    found = json.loads(lines[0].removeprefix("FIGURES "))
    return LoadFigures(
        requests_per_s=found["requests"] / (found["duration_us"] / 1e6),
        p50_ms=found["p50_us"] / 1000,
        p99_ms=found["p99_us"] / 1000,
        errors=found["errors"],
    )


def run_paced(port: int, question: Question, rate: float, connections: int, seconds: float) -> LoadFigures:
    """The same load for everyone: requests at planned moments, whatever the server does.

    A request waits for a free connection when all are busy, and its latency counts from its planned moment.

    Args:
        port: of the server.
        question: what is asked.
        rate: requests per second, evenly spaced.
        connections: at most.
        seconds: of planned moments.
    """
    client = _PacedClient(port, question, connections)
    try:
        return client.run(rate, seconds)
    finally:
        client.close()


def request_bytes(port: int, question: Question) -> bytes:
    """A request as it travels, on a connection that is kept."""
    head = (
        f"POST {question.path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(question.body)}\r\n\r\n"
    )
    return head.encode() + question.body


def exchange(connection: socket.socket, request: bytes) -> bool:
    """Send a request and read its whole answer; whether it was 200.

    Raises:
        LoadGeneratorMissing: the connection was closed.
    """
    connection.sendall(request)
    buffer = bytearray()
    while True:
        data = connection.recv(65536)
        if not data:
            raise LoadGeneratorMissing(reason="the server closed a connection")
        buffer += data
        head_end = buffer.find(b"\r\n\r\n")
        head = bytes(buffer[: max(head_end, 0)]).lower()
        if head_end >= 0 and _is_whole(head, buffer, head_end + 4):
            return head.startswith(b"http/1.1 200")


def quantile(values: Sequence[float], share: float) -> float:
    """Nearest rank of ordered values; 0 of none."""
    return values[min(int(len(values) * share), len(values) - 1)] if values else 0.0


class _PacedClient:
    """One thread, a few keep-alive connections. Answers state their length or come in chunks."""

    def __init__(self, port: int, question: Question, connections: int) -> None:
        self._request = request_bytes(port, question)
        self._selector = selectors.DefaultSelector()
        self._free: list[socket.socket] = []
        self._due: dict[socket.socket, float] = {}
        self._buffers: dict[socket.socket, bytearray] = {}
        for _ in range(connections):
            connection = socket.create_connection(("127.0.0.1", port), timeout=30.0)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._selector.register(connection, selectors.EVENT_READ)
            self._free.append(connection)
        self._latencies: list[float] = []
        self._errors = 0

    def run(self, rate: float, seconds: float) -> LoadFigures:
        count, sent = int(rate * seconds), 0
        began = time.perf_counter() + 0.01
        end = began + seconds + 10.0
        while len(self._latencies) + self._errors < count and time.perf_counter() < end:
            now = time.perf_counter()
            due = began + sent / rate
            if sent < count and self._free and now >= due:
                connection = self._free.pop()
                self._due[connection] = due
                connection.sendall(self._request)
                sent += 1
                continue
            wait = max(0.0, due - now) if sent < count and self._free else 0.05
            for key, _ in self._selector.select(wait):
                if isinstance(key.fileobj, socket.socket):
                    self._read(key.fileobj)
        self._errors += count - len(self._latencies) - self._errors
        ordered = sorted(self._latencies)
        return LoadFigures(
            requests_per_s=len(ordered) / max(time.perf_counter() - began, 1e-9),
            p50_ms=quantile(ordered, 0.5) * 1000,
            p99_ms=quantile(ordered, 0.99) * 1000,
            errors=self._errors,
        )

    def _read(self, connection: socket.socket) -> None:
        data = connection.recv(65536)
        if not data:
            raise LoadGeneratorMissing(reason="the server closed a connection")
        buffer = self._buffers.setdefault(connection, bytearray())
        buffer += data
        head_end = buffer.find(b"\r\n\r\n")
        if head_end < 0:
            return
        head = bytes(buffer[:head_end]).lower()
        if not _is_whole(head, buffer, head_end + 4):
            return
        buffer.clear()
        due = self._due.pop(connection)
        if head.startswith(b"http/1.1 200"):
            self._latencies.append(time.perf_counter() - due)
        else:
            self._errors += 1
        self._free.append(connection)

    def close(self) -> None:
        self._selector.close()
        for connection in self._free + list(self._due):
            connection.close()


def _is_whole(head: bytes, buffer: bytearray, body_start: int) -> bool:
    at = head.find(b"content-length:")
    if at >= 0:
        return len(buffer) >= body_start + int(head[at + 15 :].split(b"\r\n", 1)[0])
    if b"transfer-encoding: chunked" not in head:
        raise LoadGeneratorMissing(reason="an answer does not say where it ends")
    return buffer.endswith(b"0\r\n\r\n", body_start)
