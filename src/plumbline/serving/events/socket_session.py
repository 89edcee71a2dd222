"""One connection of `/ws`, from the handshake to its typed end."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Any, Protocol, runtime_checkable

from starlette.websockets import WebSocket, WebSocketDisconnect

from plumbline.contracts.identity import Principal
from plumbline.contracts.requests import TenantId
from plumbline.errors import PlumblineError
from plumbline.serving.events.messages import (
    Authenticate,
    Ping,
    Pong,
    Subscribe,
    event_document,
    message_text,
    parse_message,
)
from plumbline.serving.events.refusals import (
    CursorAhead,
    CursorTooOld,
    SocketIdle,
    SocketLimitReached,
    SocketMessageRefused,
)
from plumbline.serving.events.socket_limits import SocketLimits
from plumbline.serving.ports import Authenticator, EventService, Permission, RuntimeEvent

__all__ = ["SocketSession", "close_code"]

_TICK_S = 1.0


class _Door(Protocol):
    def enter(self, tenant: TenantId) -> None: ...

    def leave(self, tenant: TenantId) -> None: ...


@runtime_checkable
class ClosableEvents(Protocol):
    """A stream of events that knows its end, as a generator does."""

    async def aclose(self) -> None:
        """End the subscription."""


class SocketSession:
    """Owns one connection: its principal, its one subscription, and when it last heard of the client.

    Every send is bounded in time; the queue of events is bounded by the bus; what the client sends is bounded
    in size and rate. The key is checked again every second, so a revoked one ends the connection.
    """

    def __init__(
        self,
        websocket: WebSocket,
        events: EventService,
        authenticator: Authenticator,
        limits: SocketLimits,
        door: _Door,
    ) -> None:
        self._socket, self._events, self._authenticator = websocket, events, authenticator
        self._limits, self._door = limits, door
        self._headers: Mapping[str, str] = dict(websocket.headers)
        self._received: deque[float] = deque()
        self._heard_s = self._sent_s = time.monotonic()
        self._pinged_s: float | None = None
        self._sending = asyncio.Lock()
        self._sent_bytes = self._pinged_bytes = self._acknowledged_bytes = 0
        self._acknowledged = asyncio.Event()

    async def run(self) -> None:
        """Serve until the client leaves or is closed with a code and a reason."""
        await self._socket.accept()
        try:
            principal = await self._principal()
            self._door.enter(principal.tenant)
            try:
                await self._serve(principal)
            finally:
                self._door.leave(principal.tenant)
        except PlumblineError as error:
            await self._close(error)
        except WebSocketDisconnect:
            return

    async def _principal(self) -> Principal:
        """Who connects: as the shell says, by header, or by the first message."""
        principal: Principal | None = self._socket.scope.get("state", {}).get("principal")
        if principal is None:
            if not {"authorization", "x-api-key"} & self._headers.keys():
                self._headers = {**self._headers, **await self._hello()}
            principal = await self._authenticator.authenticate(self._headers)
        self._authenticator.authorise(principal, Permission.READ)
        self._authenticator.spend(principal)
        return principal

    async def _hello(self) -> dict[str, str]:
        """A header from the first message; none where the authenticator wants none."""
        with suppress(PlumblineError):
            await self._authenticator.authenticate({})
            return {}
        try:
            async with asyncio.timeout(self._limits.hello_timeout_s):
                message = parse_message(await self._receive())
        except TimeoutError:
            timeout_s = self._limits.hello_timeout_s
            raise SocketIdle(what="no first message", timeout_s=timeout_s) from None
        if not isinstance(message, Authenticate):
            raise SocketMessageRefused(reason="the first message is `authenticate`")
        return {"x-api-key": message.key}

    async def _serve(self, principal: Principal) -> None:
        await self._send("welcome", principal=principal.id, tenant=principal.tenant)
        reading = asyncio.create_task(self._receive())
        ticking = asyncio.create_task(self._tick())
        pumping: asyncio.Task[None] | None = None
        try:
            while True:
                waiting = {task for task in (reading, ticking, pumping) if task is not None}
                done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if pumping in done and pumping is not None:
                    pumping.result()
                if ticking in done:
                    ticking.result()
                if reading in done:
                    message = parse_message(reading.result())
                    reading = asyncio.create_task(self._receive())
                    if isinstance(message, Subscribe):
                        pumping = await self._subscribe(principal, message, pumping)
                    elif isinstance(message, Ping):
                        await self._send("pong")
                    elif isinstance(message, Pong):
                        self._acknowledged_bytes = self._pinged_bytes
                        self._acknowledged.set()
                    else:
                        raise SocketMessageRefused(reason="this connection is authenticated")
        finally:
            for task in (reading, ticking, pumping):
                await _end_quietly(task)

    async def _subscribe(
        self, principal: Principal, message: Subscribe, before: asyncio.Task[None] | None
    ) -> asyncio.Task[None] | None:
        if max(len(message.kinds), len(message.subjects)) > self._limits.max_filters:
            raise SocketLimitReached(what="filters of one subscription", limit=self._limits.max_filters)
        try:
            stream = self._events.subscribe(
                principal, after=message.after, kinds=message.kinds, subjects=message.subjects
            )
        except (CursorTooOld, CursorAhead) as error:
            await self._send("refused", error=_public(error))
            return before
        await _end_quietly(before)
        await self._send("subscribed", after=message.after)
        return asyncio.create_task(self._pump(stream))

    async def _pump(self, stream: AsyncIterator[RuntimeEvent]) -> None:
        try:
            async for event in stream:
                await self._send("event", event=event_document(event))
                await self._flow()
        finally:
            if isinstance(stream, ClosableEvents):
                await stream.aclose()

    async def _flow(self) -> None:
        """Keep what the client has not confirmed within the window, whatever the HTTP server buffers.

        A `ping` goes out at half of the window; its `pong` confirms all that was sent before it.
        """
        window = self._limits.window_bytes
        while self._sent_bytes - self._acknowledged_bytes > window // 2:
            if self._pinged_bytes <= self._acknowledged_bytes:
                await self._ping()
            if self._sent_bytes - self._acknowledged_bytes <= window:
                return
            self._acknowledged.clear()
            try:
                async with asyncio.timeout(self._limits.send_timeout_s):
                    await self._acknowledged.wait()
            except TimeoutError:
                timeout_s = self._limits.send_timeout_s
                raise SocketIdle(what="events were not confirmed", timeout_s=timeout_s) from None

    async def _ping(self) -> None:
        self._pinged_s, self._pinged_bytes = time.monotonic(), self._sent_bytes
        await self._send("ping")

    async def _tick(self) -> None:
        """Ping who is silent, close who stays silent, and ask again whether the key still works."""
        limits = self._limits
        while True:
            await asyncio.sleep(min(_TICK_S, limits.ping_s, limits.pong_timeout_s))
            now_s = time.monotonic()
            if self._pinged_s is not None and self._heard_s >= self._pinged_s:
                self._pinged_s = None
            if self._pinged_s is not None and now_s - self._pinged_s >= limits.pong_timeout_s:
                raise SocketIdle(what="no answer to a ping", timeout_s=limits.pong_timeout_s)
            if self._pinged_s is None and now_s - self._heard_s >= limits.ping_s:
                await self._ping()
            if self._socket.scope.get("state", {}).get("principal") is None or _shows_key(self._headers):
                await self._authenticator.authenticate(self._headers)

    async def _receive(self) -> str | bytes:
        message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code") or 1005)
        self._heard_s = time.monotonic()
        body: str | bytes = message.get("text") or message.get("bytes") or ""
        if len(body) > self._limits.max_message_bytes:
            raise SocketLimitReached(what="bytes of one message", limit=self._limits.max_message_bytes)
        self._received.append(self._heard_s)
        while self._received and self._received[0] <= self._heard_s - 1.0:
            self._received.popleft()
        if len(self._received) > self._limits.messages_per_s:
            raise SocketLimitReached(what="messages of a second", limit=self._limits.messages_per_s)
        return body

    async def _send(self, kind: str, **fields: Any) -> None:
        text = message_text(kind, **fields)
        async with self._sending:
            try:
                async with asyncio.timeout(self._limits.send_timeout_s):
                    await self._socket.send_text(text)
                    self._sent_bytes += len(text)
            except TimeoutError:
                timeout_s = self._limits.send_timeout_s
                raise SocketIdle(what="a message was not taken", timeout_s=timeout_s) from None
            except (RuntimeError, OSError):
                raise WebSocketDisconnect(1006) from None

    async def _close(self, error: PlumblineError) -> None:
        with suppress(PlumblineError, WebSocketDisconnect):
            if not isinstance(error, SocketIdle):
                await self._send("error", error=_public(error))
        with suppress(RuntimeError, OSError, TimeoutError):
            async with asyncio.timeout(self._limits.send_timeout_s):
                await self._socket.close(code=close_code(error), reason=error.code)


def close_code(error: PlumblineError) -> int:
    """4000 and the HTTP status of the error; clients read the reason for its code.

    >>> close_code(SocketLimitReached(what="messages of a second", limit=20))
    4429
    """
    return 4000 + error.http_status


def _public(error: PlumblineError) -> dict[str, Any]:
    document = error.to_dict()
    return {name: document[name] for name in ("code", "class", "recoverability", "message", "fields")}


def _shows_key(headers: Mapping[str, str]) -> bool:
    return bool({"authorization", "x-api-key"} & headers.keys())


async def _end_quietly(task: asyncio.Task[Any] | None) -> None:
    if task is None:
        return
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()
