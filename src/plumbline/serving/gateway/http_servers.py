"""HTTP servers under the gateway: uvicorn and granian. Both run in the caller's event loop.

What they refuse by themselves, before the gateway sees a request, is bare: no problem document and no request
id. `docs/reference/http-api.md` lists it.
"""

from __future__ import annotations

import os
import socket
from enum import StrEnum
from typing import Any, Protocol

import granian.net as granian_sockets
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server as EmbeddedServer

from plumbline.serving.gateway.asgi import Application
from plumbline.serving.gateway.bounded_uvicorn import BoundedUvicorn
from plumbline.serving.gateway.limits import GatewayLimits, connection_room

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
    return BoundedUvicorn(application, listener, limits)


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
            backpressure=connection_room(limits.max_connections),
            http1_settings=HTTP1Settings(
                header_read_timeout=int(limits.header_timeout_s * 1000),
                max_buffer_size=max(8192, 2 * limits.max_header_bytes),
            ),
        )

    async def run(self) -> None:
        await self._server.serve()

    def stop(self) -> None:
        self._server.stop()
