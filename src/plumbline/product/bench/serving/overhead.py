"""What serving adds to MiniLM: a served request beside a direct call of the encoder, taking turns."""

from __future__ import annotations

import http.client
import socket
import statistics
import time
from pathlib import Path
from typing import Any

from plumbline.product.bench.serving.load import LoadFigures, exchange, quantile, request_bytes, run_wrk
from plumbline.product.bench.serving.processes import ServerProcess, free_port
from plumbline.product.bench.serving.setting import Setting, open_encoder
from plumbline.product.bench.serving.targets import TEXT, Question, ask, our_targets

__all__ = ["measure_overhead"]

_WARM_UP = 50
_BLOCKS = 3
_BLOCK_S = 2.0


def measure_overhead(setting: Setting, work: Path, requests: int) -> dict[str, Any]:
    """One keep-alive connection to a server with one worker, against the same text in this process, twice.

    *Busy*: blocks of two seconds take turns, direct calls in a loop and wrk on one connection, so each finds
    its own caches warm. *Rested*: one direct call and one served request take turns, so the server has slept
    for a call each time; its client is Python.

    Returns:
        `{busy: figures, rested: figures}`, figures being `{requests, served_p50_ms, direct_p50_ms,
        overhead_p50_ms, served_p99_ms, direct_p99_ms}`.

    Raises:
        ServerNotReady: the server does not come up.
    """
    target = our_targets(setting.repository, work / "overhead", ["workers"])[0]
    port = free_port()
    command = [str(port) if part == "PORT" else part for part in target.command]
    server = ServerProcess(target.name, command, target.environment, work / "overhead.log")
    question = target.question("minilm")

    def flaw() -> str:
        try:
            ask(port, question)
        except (OSError, ValueError, KeyError, http.client.HTTPException) as error:
            return str(error)
        return ""

    try:
        server.wait_until(flaw, 90.0)
        with open_encoder(setting.encoder) as encoder:
            connection = socket.create_connection(("127.0.0.1", port), timeout=30.0)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            request = request_bytes(port, question)
            served, direct = [], []
            for _ in range(requests + _WARM_UP):
                began = time.perf_counter()
                encoder.encode([TEXT])
                middle = time.perf_counter()
                exchange(connection, request)
                served.append(time.perf_counter() - middle)
                direct.append(middle - began)
            connection.close()
            busy = _busy(port, question, encoder)
    finally:
        server.stop()
    return {"busy": busy, "rested": _figures(served[_WARM_UP:], direct[_WARM_UP:])}


def _busy(port: int, question: Question, encoder: Any) -> dict[str, Any]:
    served: list[LoadFigures] = []
    direct: list[float] = []
    for _ in range(_BLOCKS):
        end = time.perf_counter() + _BLOCK_S
        while (began := time.perf_counter()) < end:
            encoder.encode([TEXT])
            direct.append(time.perf_counter() - began)
        served.append(run_wrk(port, question, 1, _BLOCK_S))
    served_p50_ms = statistics.median(figures.p50_ms for figures in served)
    ordered = sorted(direct)
    direct_p50_ms = quantile(ordered, 0.5) * 1000
    return {
        "requests": round(sum(figures.requests_per_s for figures in served) * _BLOCK_S),
        "served_p50_ms": round(served_p50_ms, 4),
        "direct_p50_ms": round(direct_p50_ms, 4),
        "overhead_p50_ms": round(served_p50_ms - direct_p50_ms, 4),
        "served_p99_ms": round(statistics.median(figures.p99_ms for figures in served), 4),
        "direct_p99_ms": round(quantile(ordered, 0.99) * 1000, 4),
    }


def _figures(served: list[float], direct: list[float]) -> dict[str, Any]:
    served, direct = sorted(served), sorted(direct)
    served_p50, direct_p50 = quantile(served, 0.5) * 1000, quantile(direct, 0.5) * 1000
    return {
        "requests": len(served),
        "served_p50_ms": round(served_p50, 4),
        "direct_p50_ms": round(direct_p50, 4),
        "overhead_p50_ms": round(served_p50 - direct_p50, 4),
        "served_p99_ms": round(quantile(served, 0.99) * 1000, 4),
        "direct_p99_ms": round(quantile(direct, 0.99) * 1000, 4),
    }
