"""The shell: plain ASGI, as few layers as there can be between a socket and a route.

In this order: request id, sizes of the head, host and origin, API version, route, room, who asks and whether
they may, body, answer. Every failure becomes one problem document. `POST .../infer` finds its way without the
route table.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from plumbline.contracts.requests import verify_request_id
from plumbline.errors import PlumblineError
from plumbline.serving.gateway.api_versions import VENDOR, negotiate, version_in_path
from plumbline.serving.gateway.asgi import Receive, Scope, Send
from plumbline.serving.gateway.bodies import BodyReader, BodyRule, ClientGone, drain_body
from plumbline.serving.gateway.callers import identify
from plumbline.serving.gateway.compression import LEAST_BYTES, compressed
from plumbline.serving.gateway.flights import Flight, Flights
from plumbline.serving.gateway.heads import infer_target, verify_head
from plumbline.serving.gateway.native_door import NativeDoor
from plumbline.serving.gateway.origins import Origins
from plumbline.serving.gateway.parts import Gateway
from plumbline.serving.gateway.problems import as_plumbline_error, problem_answer
from plumbline.serving.gateway.refusals import BodyTooSlow, BodyUnreadable, MethodRefused, RouteUnknown
from plumbline.serving.gateway.request_ids import RequestIds
from plumbline.serving.gateway.service_routes import ServiceRoutes
from plumbline.serving.open_inference.exchange import Answer, Asked
from plumbline.serving.open_inference.openapi import openapi_document
from plumbline.serving.open_inference.route_table import Operation, RouteTable
from plumbline.serving.open_inference.routes import OpenInference
from plumbline.serving.ports import Permission

__all__ = ["GatewayApplication", "build_application"]

_INFER = "/v2/models/{model}/infer"
_INFER_MEDIA = (b"application/json", b"application/octet-stream")
_NATIVE_METHODS = "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"


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
        options, limits = parts.options, parts.limits
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
            limits=limits.tensors,
            clock=parts.clock,
            name=options.name,
            version=options.version,
        )
        self._bodies = BodyReader(self.flights)
        self._infer_rule = BodyRule(
            limit_bytes=limits.max_body_bytes, media=_INFER_MEDIA, is_checked_first=True
        )
        self._native = NativeDoor(parts, self._bodies, self.flights, self._origins)
        service = ServiceRoutes(parts, self.flights)
        self._table = RouteTable([*service.routes(), *self._open_inference.routes()])
        self.openapi = openapi_document(options.name, options.version, self._table.routes)
        service.own_openapi = self.openapi
        self._ids = RequestIds(is_taken=self.flights.has)
        self._now_ns = parts.clock.now_ns

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection event of ASGI."""
        kind = scope["type"]
        if kind == "http":
            await self._http(scope, receive, send)
        elif kind == "websocket":
            await self._native.open_socket(scope, receive, send, self._ids.make())
        else:
            await _lifespan(receive, send)

    async def drain(self, timeout_s: float) -> int:
        """Take nothing new, finish what is in flight. Returns the number of requests that did not finish."""
        return await self.flights.drain(timeout_s)

    # -- a request -------------------------------------------------------------------------------------------

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        arrived_ns = self._now_ns()
        headers: dict[bytes, bytes] = dict(scope["headers"])
        method: str = scope["method"]
        path: str = scope["path"]
        given_id = headers.get(b"x-request-id")
        request_id = self._ids.make()
        origin: bytes | None = None
        asked = Asked(method=method, path=path, request_id=request_id, headers=headers, arrived_ns=arrived_ns)
        flight: Flight | None = None
        route = "-"
        is_refused = True
        answer: Answer | None = None
        try:
            if given_id is not None:
                request_id = asked.request_id = verify_request_id(given_id.decode("latin-1"))
            verify_head(scope, headers, self.parts.limits)
            origin = self._origins.verify(method, headers)
            accept = headers.get(b"accept")
            version = None
            if accept is not None and VENDOR in accept:
                version = negotiate(accept, self.parts.options.contract_versions)
            named = infer_target(path) if method == "POST" else None
            if named is not None:
                route = _INFER
                flight = self.flights.enter(request_id, receive)
                answer = await self._infer(asked, receive, flight, *named)
            elif self.parts.native is not None and path.startswith(self.parts.options.native_prefixes):
                route = "native"
                flight = self.flights.enter(request_id, receive)
                if origin is not None and method == "OPTIONS":
                    answer = self._options(_NATIVE_METHODS, origin)
                else:
                    await self._native.answer(scope, asked, receive, send, flight, origin, version)
            else:
                asked.query = scope.get("query_string", b"")
                route, operation, values = self._find(method, path)
                if operation is None:
                    answer = self._options(values["allow"], origin)
                else:
                    if operation.permission is not None:
                        flight = self.flights.enter(request_id, receive)
                        await self._prepare(asked, operation, receive, flight)
                    answer = await operation.handle(asked, values)
            is_refused = False
        except PlumblineError as error:
            answer = _problem(error, asked)
        except ClientGone:
            answer = _problem(BodyUnreadable(reason="it broke off"), asked)
        except asyncio.CancelledError:
            if flight is None or not (flight.too_slow or flight.gone):
                if flight is not None:
                    self.flights.leave(request_id)
                raise
            answer = self._cancelled_by_us(flight, asked)
        except Exception as error:  # noqa: BLE001 (one unit of work fails as our bug)
            answer = _problem(as_plumbline_error(error, request_id), asked)
        try:
            if answer is not None:
                await self._send(send, answer, asked, origin)
                observe = self.parts.observe
                if observe is not None:
                    observe(route, method, answer.status, self._now_ns() - arrived_ns)
        finally:
            if flight is not None:
                self.flights.leave(request_id)
        if is_refused and (flight is None or not (flight.has_body or flight.too_slow or flight.gone)):
            await drain_body(receive, headers, self.parts.limits)

    async def _infer(
        self, asked: Asked, receive: Receive, flight: Flight, model: str, version: str | None
    ) -> Answer:
        headers = asked.headers
        if self.parts.authenticator is not None:
            asked.principal = await identify(self.parts.authenticator, headers, Permission.INFER)
        asked.body = await self._bodies.read(receive, headers, flight, self._infer_rule)
        flight.watched = True
        answer = await self._open_inference.infer(asked, model, version)
        flight.watched = False
        encoding = headers.get(b"accept-encoding")
        if encoding in (b"gzip", b"deflate") and len(answer.body) >= LEAST_BYTES:
            return await compressed(answer, encoding)
        return answer

    async def _prepare(self, asked: Asked, operation: Operation, receive: Receive, flight: Flight) -> None:
        asked.principal = await identify(self.parts.authenticator, asked.headers, operation.permission)
        if operation.body:
            limits = self.parts.limits
            rule = BodyRule(
                limit_bytes=limits.max_native_body_bytes,
                media=operation.body,
                max_depth=limits.max_json_depth,
            )
            asked.body = await self._bodies.read(receive, asked.headers, flight, rule)

    async def _send(self, send: Send, answer: Answer, asked: Asked, origin: bytes | None) -> None:
        body = answer.body
        headers = [
            (b"content-length", b"%d" % len(body)),
            (b"x-request-id", asked.request_id.encode("latin-1")),
            (b"x-content-type-options", b"nosniff"),
            *answer.headers,
        ]
        if answer.media_type:
            headers.append((b"content-type", answer.media_type))
        if origin is not None:
            headers.extend(self._origins.headers(origin, preflight=False))
        if self.flights.is_draining:  # or a client sends its next request into a connection that closes
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        if asked.method == "HEAD":
            body = b""
        await send({"type": "http.response.body", "body": body, "more_body": False})

    # -- where it belongs ------------------------------------------------------------------------------------

    def _find(self, method: str, path: str) -> tuple[str, Operation | None, Mapping[str, str]]:
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

    def _cancelled_by_us(self, flight: Flight, asked: Asked) -> Answer | None:
        task = asyncio.current_task()
        if task is not None:
            task.uncancel()
        if flight.gone:
            return None
        return _problem(BodyTooSlow(limit_s=self.parts.limits.body_timeout_s), asked)


def _problem(error: PlumblineError, asked: Asked) -> Answer:
    return problem_answer(error, asked.request_id, with_error_member=asked.path.startswith("/v2"))


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
