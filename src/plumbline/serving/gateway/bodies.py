"""Bodies of requests, read, inflated and checked within limits; those that were refused, thrown away."""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from plumbline.serving.gateway.asgi import Receive
from plumbline.serving.gateway.flights import Flight, Flights
from plumbline.serving.gateway.limits import GatewayLimits
from plumbline.serving.gateway.media import verify_media, verify_protocol_media
from plumbline.serving.gateway.refusals import BodyTooLarge, BodyUnreadable, MediaTypeRefused, NestedTooDeep

__all__ = ["BodyReader", "BodyRule", "ClientGone", "drain_body", "inflate", "verify_depth"]

_INLINE_INFLATE_BYTES = 64 * 1024
_IDLE_S = 0.5
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)
_ALL_BUT_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")


class ClientGone(Exception):
    """The body broke off: the connection ended, or its framing is wrong. Perhaps nobody hears the answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyRule:
    """What the body of an operation may be.

    Attributes:
        limit_bytes: as sent, as announced, and inflated.
        media: types that it may have, lower-case.
        is_native: of the native API: the versioned type will do too, and a missing one counts as the first.
            Otherwise of the protocol: a missing type will do, and a tool's default (`media`).
        is_checked_first: the type is looked at before the body is read, also when there will be none.
        max_depth: of a JSON document; None where another bound holds.
    """

    limit_bytes: int
    media: tuple[bytes, ...]
    is_native: bool = False
    is_checked_first: bool = False
    max_depth: int | None = None

    def verify_media(self, headers: Mapping[bytes, bytes]) -> None:
        """Raises MediaTypeRefused."""
        if self.is_native:
            verify_media(headers.get(b"content-type", self.media[0]), self.media, vendor=True)
        else:
            verify_protocol_media(headers, self.media)


class BodyReader:
    """Reads bodies. Owns nothing; what is held is counted by the flights."""

    def __init__(self, flights: Flights) -> None:
        self._flights = flights

    async def read(
        self, receive: Receive, headers: Mapping[bytes, bytes], flight: Flight, rule: BodyRule
    ) -> bytes:
        """The whole body, inflated and as the rule wants it. When the announced length is there, it is not
        waited for an end: granian tells the end in a message of its own, which costs as much as the rest of
        a small request.

        Raises:
            BodyTooLarge: as sent, as announced, or inflated.
            BodyUnreadable: it does not inflate.
            MediaTypeRefused: another media type, or an unknown content encoding.
            NestedTooDeep: by the rule.
            TooManyRequests: all bodies together would take too much.
            ClientGone: the body broke off.
        """
        media = headers.get(b"content-type")
        if rule.is_checked_first and media not in rule.media:
            rule.verify_media(headers)
        announced = headers.get(b"content-length")
        length = -1 if announced is None else _length(announced, rule.limit_bytes)
        flight.reading = True
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        body: bytes = message.get("body", b"")
        if len(body) > rule.limit_bytes:
            raise BodyTooLarge(limit_bytes=rule.limit_bytes)
        self._flights.hold(flight, len(body))
        if message.get("more_body", False) and len(body) != length:
            body = await self._read_rest(receive, body, length, rule.limit_bytes, flight)
        flight.reading = False
        flight.has_body = True
        encoding = headers.get(b"content-encoding")
        if encoding is not None and encoding != b"identity":
            body = await _inflate(body, encoding, rule.limit_bytes)
            self._flights.hold(flight, len(body))
        if body and not rule.is_checked_first and media not in rule.media:
            rule.verify_media(headers)
        if body and rule.max_depth is not None:
            verify_depth(body, rule.max_depth)
        return body

    async def _read_rest(
        self, receive: Receive, first: bytes, announced: int, limit_bytes: int, flight: Flight
    ) -> bytes:
        chunks, size = [first], len(first)
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            chunk: bytes = message.get("body", b"")
            size += len(chunk)
            if size > limit_bytes:
                raise BodyTooLarge(limit_bytes=limit_bytes)
            self._flights.hold(flight, len(chunk))
            chunks.append(chunk)
            if not message.get("more_body", False) or size == announced:
                return b"".join(chunks)


def is_announced(headers: Mapping[bytes, bytes]) -> bool:
    """Whether the head says that a body follows."""
    return headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers


async def drain_body(receive: Receive, headers: Mapping[bytes, bytes], limits: GatewayLimits) -> None:
    """Read what is left of a body whose refusal was sent, and throw it away: most clients read no answer
    before they have sent everything, and a connection closed under them takes the answer along.

    It ends with the body, after so many bytes or so much time, or when the client sends nothing more.
    """
    if not is_announced(headers) or b"expect" in headers:
        return
    left = limits.max_drained_bytes
    now_s = asyncio.get_running_loop().time
    end_s = now_s() + limits.drain_timeout_s
    try:
        async with asyncio.timeout(None) as bound:
            while left >= 0:
                bound.reschedule(min(now_s() + _IDLE_S, end_s))
                message = await receive()
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return
                left -= len(message.get("body", b""))
    except TimeoutError:
        return


def inflate(body: bytes, encoding: bytes, limit_bytes: int) -> bytes:
    """A body of content encoding `gzip` or `deflate` (zlib format), never more than the limit.

    Raises:
        BodyTooLarge, BodyUnreadable, MediaTypeRefused: as in `read_body`.
    """
    window = {b"gzip": 31, b"deflate": 15}.get(encoding.strip().lower())
    if window is None:
        given = ascii(encoding.decode("latin-1"))[1:-1][:40]
        raise MediaTypeRefused(given=f"content encoding {given}", expected="gzip or deflate")
    inflator = zlib.decompressobj(window)
    try:
        inflated = inflator.decompress(body, limit_bytes + 1)
    except zlib.error:
        raise BodyUnreadable(reason="it is not of its content encoding") from None
    if len(inflated) > limit_bytes:
        raise BodyTooLarge(limit_bytes=limit_bytes)
    if not inflator.eof or inflator.unused_data:
        raise BodyUnreadable(reason="its compressed data is cut off or followed by something else")
    return inflated


def verify_depth(document: bytes, limit: int) -> None:
    """Refuse JSON that is nested too deep before anything parses it. Raises NestedTooDeep."""
    depth = 0
    for byte in _STRING.sub(b"", document).translate(None, _ALL_BUT_BRACKETS):
        depth += 1 if byte in b"[{" else -1
        if depth > limit:
            raise NestedTooDeep(limit=limit)


def _length(announced: bytes, limit_bytes: int) -> int:
    if not announced.isdigit() or len(announced) > 18 or int(announced) > limit_bytes:
        raise BodyTooLarge(limit_bytes=limit_bytes)
    return int(announced)


async def _inflate(body: bytes, encoding: bytes, limit_bytes: int) -> bytes:
    if len(body) <= _INLINE_INFLATE_BYTES:
        return inflate(body, encoding, limit_bytes)
    return await asyncio.to_thread(inflate, body, encoding, limit_bytes)
