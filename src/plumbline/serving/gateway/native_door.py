"""The way into the native application: HTTP with a body that was read and checked, and WebSockets."""

from __future__ import annotations

from collections.abc import Iterable

from plumbline.contracts.identity import Principal
from plumbline.contracts.requests import RequestId
from plumbline.errors import PlumblineError
from plumbline.serving.gateway.api_versions import VENDOR
from plumbline.serving.gateway.asgi import Application, Message, Receive, Scope, Send
from plumbline.serving.gateway.bodies import BodyReader, BodyRule
from plumbline.serving.gateway.callers import identify
from plumbline.serving.gateway.flights import Flight, Flights
from plumbline.serving.gateway.heads import verify_head
from plumbline.serving.gateway.origins import Origins
from plumbline.serving.gateway.parts import Gateway
from plumbline.serving.gateway.problems import as_plumbline_error
from plumbline.serving.gateway.refusals import RouteUnknown
from plumbline.serving.open_inference.exchange import JSON, Asked

__all__ = ["NativeDoor"]

_WRITES = frozenset({"POST", "PUT", "PATCH"})
_OURS = (b"x-request-id", b"x-content-type-options")


class NativeDoor:
    """Lets requests through to the native application of the parts. Owns nothing."""

    def __init__(self, parts: Gateway, bodies: BodyReader, flights: Flights, origins: Origins) -> None:
        self._parts, self._bodies, self._flights, self._origins = parts, bodies, flights, origins
        limits = parts.limits
        self._rule = BodyRule(
            limit_bytes=limits.max_native_body_bytes, media=(JSON,), is_native=True,
            max_depth=limits.max_json_depth,
        )  # fmt: skip

    async def answer(
        self, scope: Scope, asked: Asked, receive: Receive, send: Send, flight: Flight,
        origin: bytes | None, version: int | None,
    ) -> None:  # fmt: skip
        """Hand a request over; the native application sends its answer itself.

        Raises:
            PlumblineError: the body or the caller is refused.
            Exception: of the native application, before it began to answer.
        """
        native = self._parts.native
        if native is None:
            raise RouteUnknown(path=asked.path[:200])
        principal = await identify(self._parts.authenticator, asked.headers, None)
        body = b""
        if asked.method in _WRITES or b"content-length" in asked.headers:
            body = await self._bodies.read(receive, asked.headers, flight, self._rule)
        extra = [
            (b"x-request-id", asked.request_id.encode("latin-1")),
            (b"x-content-type-options", b"nosniff"),
        ]
        if origin is not None:
            extra.extend(self._origins.headers(origin, preflight=False))
        is_head = asked.method == "HEAD"
        naming = _NamedAnswer(send, extra, version, is_head)
        inner = inner_scope(scope, principal, asked.request_id)
        if is_head:
            inner["method"] = "GET"
        await _hand_over(native, inner, _Replayed(body, receive), naming, asked.request_id)

    async def open_socket(self, scope: Scope, receive: Receive, send: Send, request_id: RequestId) -> None:
        """Hand a WebSocket over, or close it with 1008."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        native = self._parts.native
        principal: Principal | None
        try:
            is_ours = scope["path"].startswith(self._parts.options.native_prefixes)
            if native is None or self._flights.is_draining or not is_ours:
                raise RouteUnknown(path=ascii(scope["path"])[1:-1][:200])
            verify_head(scope, headers, self._parts.limits)
            self._origins.verify("WEBSOCKET", headers)
            shows_key = b"authorization" in headers or b"x-api-key" in headers
            if shows_key or self._parts.authenticator is None:
                principal = await identify(self._parts.authenticator, headers, None)
            else:
                principal = None  # a browser cannot send the header: its first message has the key
        except PlumblineError:
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        await native(inner_scope(scope, principal, request_id), receive, send)


def inner_scope(scope: Scope, principal: Principal | None, request_id: str) -> Scope:
    """Without a principal, the native application authenticates by itself (the first message of a socket)."""
    state = {**(scope.get("state") or {}), "principal": principal, "request_id": request_id}
    return {**scope, "state": state}


async def _hand_over(
    native: Application, scope: Scope, receive: _Replayed, send: _NamedAnswer, request_id: str
) -> None:
    try:
        await native(scope, receive, send)
    except Exception as error:
        if not send.has_begun:
            raise
        as_plumbline_error(error, request_id)


class _Replayed:
    """A body that was read already, then whatever follows it."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}


class _NamedAnswer:
    """Puts our headers on the answer, and the version that was asked for into its media type. To HEAD it
    gives what GET gets, without the body."""

    def __init__(
        self, send: Send, extra: list[tuple[bytes, bytes]], version: int | None, is_head: bool
    ) -> None:
        self._send, self._extra, self._version, self._is_head = send, extra, version, is_head
        self.has_begun = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.has_begun = True
            message = {**message, "headers": self._named(message.get("headers", ()))}
        elif self._is_head:
            message = {**message, "body": b""}
        await self._send(message)

    def _named(self, headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        kept = [(bytes(name).lower(), bytes(value)) for name, value in headers]
        kept = [(name, value) for name, value in kept if name not in _OURS]
        if self._version is not None:
            vendor = VENDOR + b"v%d+json" % self._version
            kept = [
                (name, vendor if (name, value) == (b"content-type", JSON) else value) for name, value in kept
            ]
        return kept + self._extra
