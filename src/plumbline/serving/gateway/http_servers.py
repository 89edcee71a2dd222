"""HTTP servers under the gateway: granian, and uvicorn as the second. Both run in the caller's event loop.

What they refuse by themselves, before the gateway sees a request, is bare: no problem document and no request
id. `docs/reference/http-api.md` lists it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Generator
from enum import StrEnum
from typing import Any, Protocol

import granian.net as granian_sockets
import h11
import uvicorn
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server as EmbeddedServer
from uvicorn.protocols.http.h11_impl import H11Protocol

from plumbline.serving.gateway.asgi import Application
from plumbline.serving.gateway.limits import GatewayLimits

__all__ = ["HttpServer", "ServerKind", "make_http_server"]

_BACKLOG = 1024


class ServerKind(StrEnum):
    """Which HTTP server."""

    GRANIAN = "granian"
    UVICORN = "uvicorn"


class HttpServer(Protocol):
    """A server on a listening socket."""

    async def run(self) -> None:
        """Serve until `stop`."""

    def stop(self) -> None:
        """Ask for the end; open connections are closed."""


def make_http_server(
    kind: ServerKind, application: Application, listener: socket.socket, limits: GatewayLimits
) -> HttpServer:
    """A server that has not started yet. The listener stays the caller's."""
    if kind is ServerKind.GRANIAN:
        return _Granian(application, listener, limits)
    return _Uvicorn(application, listener, limits)


class _GranianOnSocket(EmbeddedServer):
    """granian on a socket that is already listening, so that a taken port is an error and never shared. It
    owns, and closes, a duplicate."""

    def __init__(self, *args: Any, listener: socket.socket, **options: Any) -> None:
        super().__init__(*args, **options)
        self._listener = listener

    def _init_shared_socket(self) -> None:
        holder: Any = granian_sockets.SocketHolder  # type: ignore[attr-defined]
        self._ssp: Any = None
        self._shd: Any = holder(os.dup(self._listener.fileno()), False, _BACKLOG)
        self._sfd = self._shd.get_fd()


class _Granian:
    def __init__(self, application: Application, listener: socket.socket, limits: GatewayLimits) -> None:
        host, port = listener.getsockname()[:2]
        self._server: Any = _GranianOnSocket(
            application,
            host,
            port,
            listener=listener,
            interface=Interfaces.ASGI,
            http=HTTPModes.http1,
            websockets=True,
            log_enabled=False,
            backlog=_BACKLOG,
            backpressure=limits.max_requests + 64,
            http1_settings=HTTP1Settings(
                header_read_timeout=int(limits.header_timeout_s * 1000),
                max_buffer_size=max(8192, 2 * limits.max_header_bytes),
            ),
        )

    async def run(self) -> None:
        await self._server.serve()

    def stop(self) -> None:
        self._server.stop()


class _UvicornServer(uvicorn.Server):
    """uvicorn that leaves signals to whoever runs it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


class _Uvicorn:
    def __init__(self, application: Application, listener: socket.socket, limits: GatewayLimits) -> None:
        self._listener = listener
        config = uvicorn.Config(
            application,
            http=_bounded_protocol(limits.header_timeout_s),
            ws="websockets-sansio",
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="on",
            backlog=_BACKLOG,
            h11_max_incomplete_event_size=2 * limits.max_header_bytes,
            timeout_keep_alive=max(1, round(limits.header_timeout_s)),
            timeout_graceful_shutdown=1,
        )
        self._server = _UvicornServer(config)

    async def run(self) -> None:
        await self._server.serve(sockets=[self._listener])

    def stop(self) -> None:
        self._server.should_exit = True


def _bounded_protocol(header_timeout_s: float) -> type[H11Protocol]:
    """uvicorn waits for ever for the rest of a head; this one closes the connection."""

    class BoundedH11(H11Protocol):
        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._timer = self.loop.call_later(header_timeout_s, transport.abort)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            has_partial_head = self.conn.their_state is h11.IDLE and bool(self.conn.trailing_data[0])
            if not has_partial_head:
                self._stop_timer()
            elif self._timer is None:
                self._timer = self.loop.call_later(header_timeout_s, self.transport.abort)

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_timer()
            super().connection_lost(exc)

        def _stop_timer(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    return BoundedH11
