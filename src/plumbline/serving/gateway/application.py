"""The shell: plain ASGI, as few layers as there can be between a socket and a route.

In this order: request id, sizes of the head, host and origin, API version, route, room, who asks and whether
they may, body, answer. Every failure becomes one problem document. `POST .../infer` finds its way without the
route table.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Mapping
from typing import Any

from plumbline.contracts.identity import LOCAL_PRINCIPAL, Principal
from plumbline.contracts.requests import verify_request_id
from plumbline.errors import PlumblineError
from plumbline.serving.gateway.api_versions import VENDOR, negotiate, version_in_path
from plumbline.serving.gateway.asgi import Message, Receive, Scope, Send
from plumbline.serving.gateway.bodies import ClientGone, read_body, verify_depth
from plumbline.serving.gateway.flights import Flight, Flights
from plumbline.serving.gateway.media import verify_media, verify_protocol_media
from plumbline.serving.gateway.origins import Origins
from plumbline.serving.gateway.parts import Gateway
from plumbline.serving.gateway.problems import as_plumbline_error, problem_answer
from plumbline.serving.gateway.refusals import (
    BodyTooSlow,
    BodyUnreadable,
    HeadersTooLarge,
    MethodRefused,
    RouteUnknown,
)
from plumbline.serving.gateway.request_ids import RequestIds
from plumbline.serving.gateway.service_routes import ServiceRoutes
from plumbline.serving.open_inference.exchange import JSON, Answer, Asked
from plumbline.serving.open_inference.openapi import openapi_document
from plumbline.serving.open_inference.route_table import Operation, RouteTable
from plumbline.serving.open_inference.routes import OpenInference
from plumbline.serving.ports import Permission

__all__ = ["GatewayApplication", "build_application"]

_INFER_MEDIA = (b"application/json", b"application/octet-stream")
_WRITES = frozenset({"POST", "PUT", "PATCH"})
_SINGLE = (
    b"authorization",
    b"x-api-key",
    b"x-request-id",
    b"host",
    b"origin",
    b"content-length",
    b"content-type",
    b"content-encoding",
    b"inference-header-content-length",
)
_COMPRESS_BYTES = 1024


def build_application(parts: Gateway) -> GatewayApplication:
    """The ASGI application of a gateway. It starts and stops none of its parts.

    Raises:
        OriginListRefused: an allowed origin that is not one exact origin.
    """
    return GatewayApplication(parts)


class GatewayApplication:
    """One gateway. Owner of what is in flight; everything else belongs to its parts.

    Attributes:
        parts: what it is composed of.
        flights: requests in flight.
        openapi: the document of `/v2` and the service's own routes, to be merged with that of the native API.
    """

    def __init__(self, parts: Gateway) -> None:
        self.parts = parts
        self.flights = Flights(parts.limits)
        options = parts.options
        self._origins = Origins(
            allowed_origins=options.allowed_origins,
            allowed_hosts=options.allowed_hosts,
            check_host=parts.authenticator is None,
        )
        self._open_inference = OpenInference(
            inference=parts.inference,
            models=parts.models,
            health=parts.health,
            trace=parts.trace,
            limits=parts.limits.tensors,
            clock=parts.clock,
            name=options.name,
            version=options.version,
        )
        service = ServiceRoutes(parts, self.flights)
        self._table = RouteTable([*service.routes(), *self._open_inference.routes()])
        self.openapi = openapi_document(options.name, options.version, self._table.routes)
        service.own_openapi = self.openapi
        self._ids = RequestIds(is_taken=self.flights.has)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection event of ASGI."""
        kind = scope["type"]
        if kind == "http":
            await self._http(scope, receive, send)
        elif kind == "websocket":
            await self._websocket(scope, receive, send)
        elif kind == "lifespan":
            await _lifespan(receive, send)

    async def drain(self, timeout_s: float) -> int:
        """Take nothing new, finish what is in flight. Returns the number of requests that did not finish."""
        return await self.flights.drain(timeout_s)

    # -- HTTP ----------------------------------------------------------------------------------------------

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        parts = self.parts
        arrived_ns = parts.clock.now_ns()
        headers: dict[bytes, bytes] = dict(scope["headers"])
        method: str = scope["method"]
        path: str = scope["path"]
        given_id = headers.get(b"x-request-id")
        request_id = self._ids.make()
        origin: bytes | None = None
        asked = Asked(method=method, path=path, request_id=request_id, headers=headers, arrived_ns=arrived_ns)
        flight: Flight | None = None
        route = "-"
        answer: Answer | None
        try:
            if given_id is not None:
                request_id = asked.request_id = verify_request_id(given_id.decode("latin-1"))
            self._verify_head(scope, headers)
            origin = self._origins.verify(method, headers)
            accept = headers.get(b"accept")
            version = None
            if accept is not None and VENDOR in accept:
                version = negotiate(accept, parts.options.contract_versions)
            named = _infer_target(path) if method == "POST" else None
            if named is not None:
                route = "/v2/models/{model}/infer"
                flight = self.flights.enter(request_id, receive)
                answer = await self._infer(asked, receive, flight, *named)
            elif self.parts.native is not None and path.startswith(parts.options.native_prefixes):
                route = "native"
                flight = self.flights.enter(request_id, receive)
                answer = await self._native(scope, asked, receive, send, flight, origin, version)
            else:
                asked.query = scope.get("query_string", b"")
                template, operation, values = self._find(method, path, headers)
                route = template
                if operation is None:
                    answer = self._options(values["allow"], origin)
                else:
                    if operation.permission is not None:
                        flight = self.flights.enter(request_id, receive)
                        await self._prepare(asked, operation, receive, flight)
                    answer = await operation.handle(asked, values)
        except PlumblineError as error:
            answer = problem_answer(error, request_id, with_error_member=path.startswith("/v2"))
        except ClientGone:
            broken = BodyUnreadable(reason="it broke off")
            answer = problem_answer(broken, request_id, with_error_member=path.startswith("/v2"))
        except asyncio.CancelledError:
            if flight is None or not (flight.too_slow or flight.gone):
                if flight is not None:
                    self.flights.leave(request_id)
                raise
            answer = self._cancelled_by_us(flight, request_id, path)
        except Exception as error:  # noqa: BLE001 (one unit of work fails as our bug)
            fault = as_plumbline_error(error, request_id)
            answer = problem_answer(fault, request_id, with_error_member=path.startswith("/v2"))
        try:
            if answer is not None:
                await self._send(send, answer, asked, origin)
                if parts.observe is not None:
                    parts.observe(route, method, answer.status, parts.clock.now_ns() - arrived_ns)
        finally:
            if flight is not None:
                self.flights.leave(request_id)

    async def _infer(
        self, asked: Asked, receive: Receive, flight: Flight, model: str, version: str | None
    ) -> Answer:
        headers = asked.headers
        if self.parts.authenticator is not None:
            asked.principal = await self._authenticate(headers, Permission.INFER)
        media = headers.get(b"content-type")
        if media is not None and media not in _INFER_MEDIA:
            verify_protocol_media(headers, _INFER_MEDIA)
        asked.body = await read_body(receive, headers, self.parts.limits.max_body_bytes, self.flights, flight)
        flight.watched = True
        answer = await self._open_inference.infer(asked, model, version)
        flight.watched = False
        encoding = headers.get(b"accept-encoding")
        if encoding in (b"gzip", b"deflate") and len(answer.body) >= _COMPRESS_BYTES:
            return await _compressed(answer, encoding)
        return answer

    async def _prepare(self, asked: Asked, operation: Operation, receive: Receive, flight: Flight) -> None:
        if self.parts.authenticator is not None and operation.permission is not None:
            asked.principal = await self._authenticate(asked.headers, operation.permission)
        if not operation.body:
            return
        limit = self.parts.limits.max_native_body_bytes
        asked.body = await read_body(receive, asked.headers, limit, self.flights, flight)
        if asked.body:
            verify_protocol_media(asked.headers, operation.body)
            verify_depth(asked.body, self.parts.limits.max_json_depth)

    def _find(
        self, method: str, path: str, headers: Mapping[bytes, bytes]
    ) -> tuple[str, Operation | None, Mapping[str, str]]:
        match = self._table.find(path)
        if match is None:
            raise RouteUnknown(path=_short(path), hint=self._hint(path))
        operations = match.route.operations
        allowed = ", ".join(sorted({*operations, "OPTIONS", *(("HEAD",) if "GET" in operations else ())}))
        if method == "OPTIONS":
            return match.route.template, None, {"allow": allowed}
        operation = operations.get("GET" if method == "HEAD" else method)
        if operation is None:
            raise MethodRefused(path=match.route.template, allowed=allowed)
        return match.route.template, operation, match.values

    def _hint(self, path: str) -> str:
        version = version_in_path(path)
        known = self.parts.options.contract_versions
        if version is None or version in known:
            return ""
        return "; versions of the API: " + ", ".join(f"/api/v{number}" for number in known)

    def _options(self, allow: str, origin: bytes | None) -> Answer:
        headers: tuple[tuple[bytes, bytes], ...] = ((b"allow", allow.encode()),)
        if origin is not None:
            headers += self._origins.headers(origin, preflight=True)[2:]
        return Answer(status=204, media_type=b"", headers=headers)

    def _verify_head(self, scope: Scope, headers: Mapping[bytes, bytes]) -> None:
        limits = self.parts.limits
        raw: list[tuple[bytes, bytes]] = scope["headers"]
        if len(raw) != len(headers):
            _verify_single(raw)
        if len(raw) > limits.max_headers:
            raise HeadersTooLarge(reason=f"{len(raw)}, at most {limits.max_headers}")
        size = sum(map(len, headers)) + sum(map(len, headers.values()))
        if size > limits.max_header_bytes:
            raise HeadersTooLarge(reason=f"{size} bytes, at most {limits.max_header_bytes}")
        if len(scope["path"]) + len(scope.get("query_string", b"")) > limits.max_path_bytes:
            raise HeadersTooLarge(reason=f"the address is longer than {limits.max_path_bytes} bytes")

    async def _authenticate(self, headers: Mapping[bytes, bytes], permission: Permission | None) -> Principal:
        authenticator = self.parts.authenticator
        if authenticator is None:
            return LOCAL_PRINCIPAL
        texts = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers.items()}
        principal = await authenticator.authenticate(texts)
        if permission is not None:
            authenticator.authorise(principal, permission)
        authenticator.spend(principal)
        return principal

    def _cancelled_by_us(self, flight: Flight, request_id: str, path: str) -> Answer | None:
        task = asyncio.current_task()
        if task is not None:
            task.uncancel()
        if flight.gone:
            return None
        slow = BodyTooSlow(limit_s=self.parts.limits.body_timeout_s)
        return problem_answer(slow, request_id, with_error_member=path.startswith("/v2"))

    async def _send(self, send: Send, answer: Answer, asked: Asked, origin: bytes | None) -> None:
        headers = [
            (b"content-length", b"%d" % len(answer.body)),
            (b"x-request-id", asked.request_id.encode("latin-1")),
            (b"x-content-type-options", b"nosniff"),
            *answer.headers,
        ]
        if answer.media_type:
            headers.append((b"content-type", answer.media_type))
        if origin is not None:
            headers.extend(self._origins.headers(origin, preflight=False))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        body = b"" if asked.method == "HEAD" else answer.body
        await send({"type": "http.response.body", "body": body, "more_body": False})

    # -- the native application and WebSockets -----------------------------------------------------------

    async def _native(
        self,
        scope: Scope,
        asked: Asked,
        receive: Receive,
        send: Send,
        flight: Flight,
        origin: bytes | None,
        version: int | None,
    ) -> Answer | None:
        native = self.parts.native
        if native is None:
            raise RouteUnknown(path=_short(asked.path))
        if origin is not None and asked.method == "OPTIONS":
            return self._options("DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT", origin)
        principal = await self._authenticate(asked.headers, None)
        body = b""
        if asked.method in _WRITES or b"content-length" in asked.headers:
            limit = self.parts.limits.max_native_body_bytes
            body = await read_body(receive, asked.headers, limit, self.flights, flight)
        if body:
            verify_media(asked.headers.get(b"content-type", JSON), (JSON,), vendor=True)
            verify_depth(body, self.parts.limits.max_json_depth)
        inner = _inner_scope(scope, principal, asked.request_id)
        started = started_reading = False

        async def receive_body() -> Message:
            nonlocal started_reading
            if started_reading:
                return await receive()
            started_reading = True
            return {"type": "http.request", "body": body, "more_body": False}

        extra = [
            (b"x-request-id", asked.request_id.encode("latin-1")),
            (b"x-content-type-options", b"nosniff"),
        ]
        if origin is not None:
            extra.extend(self._origins.headers(origin, preflight=False))

        async def send_named(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message = {**message, "headers": _native_headers(message.get("headers", ()), extra, version)}
            await send(message)

        try:
            await native(inner, receive_body, send_named)
        except Exception as error:
            if started:
                as_plumbline_error(error, asked.request_id)
                return None
            raise
        return None

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        native = self.parts.native
        request_id = self._ids.make()
        principal: Principal | None
        try:
            if native is None or self.flights.is_draining:
                raise RouteUnknown(path=_short(scope["path"]))
            if not scope["path"].startswith(self.parts.options.native_prefixes):
                raise RouteUnknown(path=_short(scope["path"]))
            self._verify_head(scope, headers)
            self._origins.verify("WEBSOCKET", headers)
            shows_key = b"authorization" in headers or b"x-api-key" in headers
            if shows_key or self.parts.authenticator is None:
                principal = await self._authenticate(headers, None)
            else:
                principal = None  # a browser cannot send the header: its first message has the key
        except PlumblineError:
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        await native(_inner_scope(scope, principal, request_id), receive, send)


def _infer_target(path: str) -> tuple[str, str | None] | None:
    if not (path.endswith("/infer") and path.startswith("/v2/models/")):
        return None
    parts = path.split("/")
    if len(parts) == 5 and parts[3]:
        return parts[3], None
    if len(parts) == 7 and parts[3] and parts[4] == "versions" and parts[5]:
        return parts[3], parts[5]
    return None


def _verify_single(raw: list[tuple[bytes, bytes]]) -> None:
    seen: set[bytes] = set()
    for name, _ in raw:
        if name in seen and name in _SINGLE:
            raise HeadersTooLarge(reason=f"{name.decode()} is given twice")
        seen.add(name)


async def _compressed(answer: Answer, encoding: bytes) -> Answer:
    window = 31 if encoding == b"gzip" else 15
    body = await asyncio.to_thread(_deflate, answer.body, window)
    headers = (*answer.headers, (b"content-encoding", encoding), (b"vary", b"accept-encoding"))
    return Answer(status=answer.status, body=body, media_type=answer.media_type, headers=headers)


def _deflate(body: bytes, window: int) -> bytes:
    deflator = zlib.compressobj(1, zlib.DEFLATED, window)
    return deflator.compress(body) + deflator.flush()


def _inner_scope(scope: Scope, principal: Principal | None, request_id: str) -> Scope:
    """Without a principal, the native application authenticates by itself (the first message of a socket)."""
    state = {**(scope.get("state") or {}), "principal": principal, "request_id": request_id}
    return {**scope, "state": state}


def _native_headers(
    headers: Any, extra: list[tuple[bytes, bytes]], version: int | None
) -> list[tuple[bytes, bytes]]:
    named = [(bytes(name).lower(), bytes(value)) for name, value in headers]
    kept = [
        (name, value) for name, value in named if name not in (b"x-request-id", b"x-content-type-options")
    ]
    if version is not None:
        vendor = VENDOR + b"v%d+json" % version
        kept = [
            (name, vendor if name == b"content-type" and value == JSON else value) for name, value in kept
        ]
    return kept + extra


def _short(path: str) -> str:
    return ascii(path)[1:-1][:200]


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            await send({"type": "lifespan.shutdown.complete"})
            return
