"""The routes of the service itself: `/`, health, metrics, and the OpenAPI document."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping

import msgspec

from plumbline.serving.gateway.flights import Flights
from plumbline.serving.gateway.parts import Gateway
from plumbline.serving.gateway.refusals import Draining
from plumbline.serving.open_inference.exchange import Answer, Asked
from plumbline.serving.open_inference.readiness import ServerNotReady
from plumbline.serving.open_inference.route_table import Handle, Operation, Route
from plumbline.serving.ports import Permission

__all__ = ["ServiceRoutes", "content_security_policy"]

_INLINE = re.compile(rb"<(script|style)(?:\s[^>]*)?>(.*?)</\1>", re.DOTALL | re.IGNORECASE)
_encode = msgspec.json.Encoder().encode

Values = Mapping[str, str]


class ServiceRoutes:
    """Answers the routes that belong to no protocol.

    Attributes:
        own_openapi: answered at `/openapi.json` unless the parts give a merged document.
    """

    def __init__(self, parts: Gateway, flights: Flights) -> None:
        self._parts, self._flights = parts, flights
        self.own_openapi: Mapping[str, object] = {}
        page = parts.status_page
        self._page_policy = b"" if page is None else content_security_policy(page)

    def routes(self) -> list[Route]:
        """Every route; `/metrics` only where something renders it."""
        found = [
            _get("/", self._root, None),
            _get("/health", self._health, None),
            _get("/health/live", self._live, None),
            _get("/health/ready", self._ready, None),
            _get("/openapi.json", self._openapi, None),
        ]
        if self._parts.reference_page is not None:
            found.append(_get("/docs", self._docs, None))
        if self._parts.metrics is not None:
            found.append(_get("/metrics", self._metrics, Permission.METRICS))
        return found

    async def _root(self, asked: Asked, values: Values) -> Answer:
        page = self._parts.status_page
        if page is not None and _prefers_html(asked.headers.get(b"accept", b"")):
            policy = (b"content-security-policy", self._page_policy)
            vary = (b"vary", b"accept")
            return Answer(body=page, media_type=b"text/html; charset=utf-8", headers=(policy, vary))
        options = self._parts.options
        return _json(
            {
                "name": options.name,
                "version": options.version,
                "contract_versions": [f"v{version}" for version in options.contract_versions],
                "protocols": ["open-inference/v2"],
            }
        )

    async def _docs(self, asked: Asked, values: Values) -> Answer:
        page = self._parts.reference_page or b""
        policy = (b"content-security-policy", content_security_policy(page))
        return Answer(body=page, media_type=b"text/html; charset=utf-8", headers=(policy,))

    async def _health(self, asked: Asked, values: Values) -> Answer:
        ready, checks = self._readiness()
        return _json({"live": self._parts.health.is_live(), "ready": ready, "checks": checks})

    async def _live(self, asked: Asked, values: Values) -> Answer:
        if not self._parts.health.is_live():
            raise ServerNotReady(reason="the event loop does not turn")
        return _json({"live": True})

    async def _ready(self, asked: Asked, values: Values) -> Answer:
        if self._flights.is_draining:
            raise Draining()
        ready, checks = self._readiness()
        if not ready:
            raise ServerNotReady(reason="a check failed", checks=checks)
        return _json({"ready": True, "checks": checks})

    async def _openapi(self, asked: Asked, values: Values) -> Answer:
        merged = self._parts.openapi
        return _json(self.own_openapi if merged is None else merged())

    async def _metrics(self, asked: Asked, values: Values) -> Answer:
        if self._parts.metrics is None:
            raise ServerNotReady(reason="nothing renders metrics")
        body, media_type = self._parts.metrics()
        return Answer(body=body, media_type=media_type.encode("latin-1"))

    def _readiness(self) -> tuple[bool, Mapping[str, object]]:
        ready, checks = self._parts.health.readiness()
        return ready and not self._flights.is_draining, checks


def content_security_policy(page: bytes) -> bytes:
    """A policy that lets a page run its own inline scripts and styles and call its origin, nothing else."""
    hashes: dict[bytes, list[bytes]] = {b"script": [], b"style": []}
    for kind, content in _INLINE.findall(page):
        digest = base64.b64encode(hashlib.sha256(content).digest())
        hashes[kind.lower()].append(b" 'sha256-" + digest + b"'")
    return b"".join(
        (
            b"default-src 'none'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; ",
            b"form-action 'none'; frame-ancestors 'none'; script-src 'self'" + b"".join(hashes[b"script"]),
            b"; style-src 'self'" + b"".join(hashes[b"style"]),
        )
    )


def _prefers_html(accept: bytes) -> bool:
    first = accept.split(b",")[0].split(b";")[0].strip()
    return first in (b"text/html", b"application/xhtml+xml")


def _get(template: str, handle: Handle, permission: Permission | None) -> Route:
    return Route(template=template, operations={"GET": Operation(handle=handle, permission=permission)})


def _json(document: object) -> Answer:
    return Answer(body=_encode(document))
