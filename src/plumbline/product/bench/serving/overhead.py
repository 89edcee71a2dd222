"""What serving adds to MiniLM: a served request beside a direct call of the encoder, taking turns."""

from __future__ import annotations

import http.client
import socket
import time
from pathlib import Path
from typing import Any

from plumbline.product.bench.serving.load import exchange, quantile, request_bytes
from plumbline.product.bench.serving.processes import ServerProcess, free_port
from plumbline.product.bench.serving.setting import Setting, open_encoder
from plumbline.product.bench.serving.targets import TEXT, ask, our_targets

__all__ = ["measure_overhead"]

_WARM_UP = 50


def measure_overhead(setting: Setting, work: Path, requests: int) -> dict[str, Any]:
    """One keep-alive connection to a server with one worker, in turn with the same text in this process.

    Returns:
        `{requests, served_p50_ms, direct_p50_ms, overhead_p50_ms, served_p99_ms, direct_p99_ms}`.

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
    finally:
        server.stop()
    return _figures(served[_WARM_UP:], direct[_WARM_UP:])


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
