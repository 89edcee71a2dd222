"""uvicorn under the gateway, with bounds on what it would wait for or keep for ever.

Its parser is llhttp (httptools). On the gateway's own loop, without another thread, a request costs a third
of what it costs under granian. Bounded here: the size of a head and the time it may take, what is still read
of a body after its answer, and trailers, which are dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections import deque
from collections.abc import Generator
from typing import cast
from urllib.parse import unquote

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from plumbline.serving.gateway.asgi import Application
from plumbline.serving.gateway.limits import GatewayLimits, connection_room
from plumbline.serving.gateway.uvicorn_exchange import Exchange

__all__ = ["BoundedUvicorn"]

_BACKLOG = 1024
_IDLE_S = 0.5
_LAST_WORDS_S = 0.05
_MOST_MESSAGE_BYTES = 1 << 20
"""Of one WebSocket message. The application refuses much smaller ones, with a typed error."""
_NOT_HTTP = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_NO_ROOM = (
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n"
)
_HEAD_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
)


class BoundedUvicorn:
    """An `HttpServer`. See `make_http_server`."""

    def __init__(self, application: Application, listener: socket.socket, limits: GatewayLimits) -> None:
        self._listener = listener
        config = uvicorn.Config(
            application,
            http=_bounded_protocol(limits),
            ws="websockets-sansio",
            ws_max_size=_MOST_MESSAGE_BYTES,
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="on",
            interface="asgi3",
            proxy_headers=False,
            backlog=_BACKLOG,
            timeout_graceful_shutdown=1,
        )
        self._server = _Server(config)
        logging.getLogger("uvicorn.error").addFilter(_is_no_fault_of_a_client)

    async def run(self) -> None:
        """Serve until `stop`."""
        await self._server.serve(sockets=[self._listener])

    def stop(self) -> None:
        """Ask for the end."""
        self._server.should_exit = True


class _Server(uvicorn.Server):
    """uvicorn that leaves signals to whoever runs it, and hears out who just connected when it ends."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take what the kernel took and nothing more, answer what is said, then close every connection."""
        last = [listener.dup() for listener in sockets or ()]
        for server in self.servers:
            server.close()
        for listener in sockets or ():
            listener.close()
        await asyncio.sleep(0)  # the loop lets go of the listeners
        for connection in [taken for listener in last for taken in _take_and_close(listener)]:
            with contextlib.suppress(OSError):  # it is gone already
                await asyncio.get_running_loop().connect_accepted_socket(self._make_protocol, connection)
        await asyncio.sleep(_LAST_WORDS_S)
        await super().shutdown(sockets)

    def _make_protocol(self) -> asyncio.Protocol:
        kind = cast("type[HttpToolsProtocol]", self.config.http_protocol_class)
        return kind(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def _take_and_close(listener: socket.socket) -> list[socket.socket]:
    """Connections that the kernel has taken and nobody has accepted: closing would reset them."""
    listener.setblocking(False)
    taken: list[socket.socket] = []
    with listener, contextlib.suppress(OSError):
        while len(taken) < _BACKLOG:
            taken.append(listener.accept()[0])
    return taken


def _is_no_fault_of_a_client(record: logging.LogRecord) -> bool:
    """Text of a WebSocket that is not UTF-8 closes it, with 1007; the trace of that is no news."""
    return not (record.exc_info and record.exc_info[0] is UnicodeDecodeError)


def _bounded_protocol(limits: GatewayLimits) -> type[HttpToolsProtocol]:
    """The protocol of one connection, for these limits."""

    class Bounded(_BoundedProtocol):
        most_connections = connection_room(limits.max_connections)
        head_timeout_s = limits.header_timeout_s
        most_head_bytes = 2 * limits.max_header_bytes
        most_drained_bytes = limits.max_drained_bytes
        drain_timeout_s = limits.drain_timeout_s

    return Bounded


class _BoundedProtocol(HttpToolsProtocol):
    """One connection. `_is_in_head` from the first byte of a head to its end; `_under_way` is the exchange
    that others wait behind.

    One timer a connection looks for idleness; one for each answer would cost more than parsing the request.
    """

    most_connections: int
    head_timeout_s: float
    most_head_bytes: int
    most_drained_bytes: int
    drain_timeout_s: float

    cycle: Exchange
    _under_way: Exchange | None = None
    _is_in_head = False
    _head_bytes = 0
    _head_timer: asyncio.TimerHandle | None = None
    _drained_bytes = 0
    _drain_until_s = 0.0
    _drain_timer: asyncio.TimerHandle | None = None
    _idle_timer: asyncio.TimerHandle | None = None
    _answered_s = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._behind: deque[Exchange] = deque()
        self._head_timer = self.loop.call_later(self.head_timeout_s, transport.abort)
        if len(self.connections) > self.most_connections:
            self._refuse(_NO_ROOM)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        self._stop_draining()
        self._stop_idle_timer()
        self._behind.clear()
        if self._under_way is not None:  # the base class tells the one that came last, and that one only
            self._under_way.disconnected = True
            self._under_way.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._upgrade()
            return
        except httptools.HttpParserError:
            self._refuse(_NOT_HTTP)
            return
        if self._is_in_head:
            self._wait_for_head(len(data))
        elif self._head_timer is not None:
            self._stop_head_timer()

    def on_message_begin(self) -> None:
        self._is_in_head = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._is_in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        self._head_bytes = 0
        if self.parser.should_upgrade() and self._should_upgrade():
            self.scope["method"] = self.parser.get_method().decode("ascii")
            return
        self._begin(self._fill_scope())

    def _fill_scope(self) -> str:
        """Method and address as ASGI wants them; gives the HTTP version."""
        parser, scope = self.parser, self.scope
        url = httptools.parse_url(self.url)
        path = url.path.decode("ascii")
        scope["method"] = parser.get_method().decode("ascii")
        scope["path"] = unquote(path) if "%" in path else path
        scope["raw_path"] = url.path
        scope["query_string"] = url.query or b""
        scope["http_version"] = version = parser.get_http_version()
        return version

    def _begin(self, version: str) -> None:
        before = self.cycle
        self.cycle = exchange = Exchange(
            scope=self.scope, transport=self.transport, flow=self.flow, logger=self.logger,
            access_logger=self.access_logger, access_log=False,
            default_headers=self.server_state.default_headers, message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=version != "1.0" and self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )  # fmt: skip
        if before is None or before.response_complete:
            exchange.start(self.app)
        else:  # its turn comes when the answers before it have left
            if not self._behind:
                self._under_way = before
            self.flow.pause_reading()
            self._behind.append(exchange)

    def on_body(self, body: bytes) -> None:
        if self.cycle.response_complete:
            self._drained_bytes += len(body)
            if self._drained_bytes > self.most_drained_bytes:
                self.transport.abort()
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._drain_timer is not None:
            self._stop_draining()
            self.cycle.more_body = False
            if self.cycle.ends_connection:
                self.transport.close()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """A client that is answered before it has sent everything may finish, within bounds: most read no
        answer before, and a connection that is closed under them takes the answer along.
        """
        if self.cycle.response_complete and self.cycle.more_body and self._drain_timer is None:
            self._drained_bytes = 0
            self._drain_until_s = self.loop.time() + self.drain_timeout_s
            self._drain_timer = self.loop.call_later(_IDLE_S, self._look_at_draining, 0)
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self._behind:
            self._under_way = self._behind.popleft()
            self._under_way.start(self.app)
        else:
            self._answered_s = self.loop.time()
            if self._idle_timer is None:
                self._idle_timer = self.loop.call_later(self.head_timeout_s, self._look_at_idleness)

    def _look_at_idleness(self) -> None:
        idle_s = self.loop.time() - self._answered_s
        if not self.cycle.response_complete or self._is_in_head:
            idle_s = 0.0  # the end of its request, or the timer of the head, has the next word
        if idle_s >= self.head_timeout_s:
            self.transport.close()
        else:
            self._idle_timer = self.loop.call_later(self.head_timeout_s - idle_s, self._look_at_idleness)

    def _look_at_draining(self, before_bytes: int) -> None:
        if self._drained_bytes == before_bytes or self.loop.time() > self._drain_until_s:
            self.transport.close()
        else:
            self._drain_timer = self.loop.call_later(_IDLE_S, self._look_at_draining, self._drained_bytes)

    def _upgrade(self) -> None:
        if self._should_upgrade():
            self._stop_head_timer()
            self._stop_idle_timer()
            self.handle_websocket_upgrade()
        elif self.cycle is not None:
            self.cycle.keep_alive = (
                False  # the parser has stopped: it takes what follows for the other protocol
            )

    def _wait_for_head(self, size_bytes: int) -> None:
        self._head_bytes += size_bytes
        if self._head_bytes > self.most_head_bytes:
            self._refuse(_HEAD_TOO_LARGE)
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(self.head_timeout_s, self.transport.abort)

    def _refuse(self, answer: bytes) -> None:
        """Without a word where another request waits for its answer: it would look like that, or a part."""
        cycle = self.cycle
        if cycle is not None and cycle.more_body and not cycle.response_started and not self._behind:
            cycle.disconnected = True  # the body that broke off is its own, and this is its answer
            cycle.message_event.set()
            self.transport.write(answer)
        elif cycle is None or cycle.response_complete:
            self.transport.write(answer)
        self.transport.close()

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_idle_timer(self) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None

    def _stop_draining(self) -> None:
        if self._drain_timer is not None:
            self._drain_timer.cancel()
            self._drain_timer = None
