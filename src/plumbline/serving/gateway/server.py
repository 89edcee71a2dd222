"""Run a gateway: listeners, signals, drain."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from plumbline.serving.gateway.application import GatewayApplication
from plumbline.serving.gateway.binding import open_listener, verify_listener
from plumbline.serving.gateway.http_servers import HttpServer, ServerKind, make_http_server
from plumbline.serving.grpc.server import GrpcServer, start_grpc_server

__all__ = ["Listening", "ServerKind", "serve"]

_BACKLOG = 1024
_FLUSH_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """Where a gateway can be reached: the real ports, also when 0 was asked for."""

    host: str
    port: int
    grpc_port: int | None


async def serve(
    application: GatewayApplication,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    grpc_port: int | None = None,
    kind: ServerKind = ServerKind.UVICORN,
    drain_timeout_s: float = 30.0,
    stop: asyncio.Event | None = None,
    on_listening: Callable[[Listening], None] | None = None,
) -> int:
    """Serve until SIGTERM, SIGINT or `stop`, then drain: readiness turns false, new requests are refused with
    a time to come again, those in flight are finished, then the listeners close.

    Args:
        application: of `build_application`.
        host: loopback, unless the gateway has an authenticator.
        port: 0 takes a free one.
        grpc_port: None serves no gRPC, 0 takes a free port.
        kind: which HTTP server.
        drain_timeout_s: how long requests in flight may take to finish.
        stop: set it to stop; needed outside the main thread, where no signal arrives.
        on_listening: called once, when requests are answered.

    Returns:
        Number of requests that did not finish in time.

    Raises:
        ListenerRefused: the address is not a loopback one and there is no authenticator.
        ListenerUnavailable: the address or port cannot be had.
    """
    parts = application.parts
    verify_listener(host, authenticated=parts.authenticator is not None)
    stop = asyncio.Event() if stop is None else stop
    listener = open_listener(host, port, _BACKLOG)
    try:
        server = make_http_server(kind, application, listener, parts.limits)
        grpc_server = None
        if grpc_port is not None:
            grpc_server = await start_grpc_server(parts, application.flights, host=host, port=grpc_port)
        with _signals(stop):
            running = asyncio.create_task(server.run())
            listening = Listening(
                host=host,
                port=listener.getsockname()[1],
                grpc_port=None if grpc_server is None else grpc_server.port,
            )
            try:
                await _until_stopped(running, stop, on_listening, listening)
            finally:
                unfinished = await _wind_down(application, server, running, grpc_server, drain_timeout_s)
    finally:
        listener.close()
    return unfinished


async def _until_stopped(
    running: asyncio.Task[None],
    stop: asyncio.Event,
    on_listening: Callable[[Listening], None] | None,
    listening: Listening,
) -> None:
    if on_listening is not None:
        on_listening(listening)
    waiting = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()


async def _wind_down(
    application: GatewayApplication,
    server: HttpServer,
    running: asyncio.Task[None],
    grpc_server: GrpcServer | None,
    drain_timeout_s: float,
) -> int:
    unfinished = await application.drain(drain_timeout_s)
    if grpc_server is not None:
        await grpc_server.stop(_FLUSH_S)
    await asyncio.sleep(_FLUSH_S)
    server.stop()
    await running
    return unfinished


@contextlib.contextmanager
def _signals(stop: asyncio.Event) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    caught = (signal.SIGTERM, signal.SIGINT)
    for number in caught:
        loop.add_signal_handler(number, stop.set)
    try:
        yield
    finally:
        for number in caught:
            loop.remove_signal_handler(number)
