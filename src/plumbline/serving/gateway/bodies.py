"""Bodies of requests, read and inflated within limits."""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import Mapping

from plumbline.serving.gateway.asgi import Receive
from plumbline.serving.gateway.flights import Flight, Flights
from plumbline.serving.gateway.refusals import BodyTooLarge, BodyUnreadable, MediaTypeRefused, NestedTooDeep

__all__ = ["ClientGone", "inflate", "read_body", "verify_depth"]

_INLINE_INFLATE_BYTES = 64 * 1024
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)
_ALL_BUT_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")


class ClientGone(Exception):
    """The body broke off: the connection ended, or its framing is wrong. Perhaps nobody hears the answer."""


async def read_body(
    receive: Receive, headers: Mapping[bytes, bytes], limit_bytes: int, flights: Flights, flight: Flight
) -> bytes:
    """The whole body, inflated. When the announced length is there, it is not waited for an end: granian
    tells the end in a message of its own, which costs as much as the rest of a small request.

    Raises:
        BodyTooLarge: as sent, as announced, or inflated.
        BodyUnreadable: it does not inflate.
        MediaTypeRefused: an unknown content encoding.
        TooManyRequests: all bodies together would take too much.
        ClientGone: the body broke off.
    """
    announced = headers.get(b"content-length")
    if announced is not None and (
        not announced.isdigit() or len(announced) > 18 or int(announced) > limit_bytes
    ):
        raise BodyTooLarge(limit_bytes=limit_bytes)
    flight.reading = True
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    body: bytes = message.get("body", b"")
    if message.get("more_body", False) and (announced is None or len(body) < int(announced)):
        length = None if announced is None else int(announced)
        body = await _read_rest(receive, body, length, limit_bytes, flights, flight)
    else:
        _hold(flights, flight, body, limit_bytes)
    flight.reading = False
    encoding = headers.get(b"content-encoding")
    if encoding is None or encoding == b"identity":
        return body
    inflated = await _inflate(body, encoding, limit_bytes)
    flights.hold(flight, len(inflated))
    return inflated


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


async def _read_rest(
    receive: Receive,
    first: bytes,
    announced: int | None,
    limit_bytes: int,
    flights: Flights,
    flight: Flight,
) -> bytes:
    chunks = [first]
    size = len(first)
    _hold(flights, flight, first, limit_bytes)
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > limit_bytes:
            raise BodyTooLarge(limit_bytes=limit_bytes)
        flights.hold(flight, len(chunk))
        chunks.append(chunk)
        if not message.get("more_body", False) or size == announced:
            return b"".join(chunks)


def _hold(flights: Flights, flight: Flight, chunk: bytes, limit_bytes: int) -> None:
    if len(chunk) > limit_bytes:
        raise BodyTooLarge(limit_bytes=limit_bytes)
    flights.hold(flight, len(chunk))


async def _inflate(body: bytes, encoding: bytes, limit_bytes: int) -> bytes:
    if len(body) <= _INLINE_INFLATE_BYTES:
        return inflate(body, encoding, limit_bytes)
    return await asyncio.to_thread(inflate, body, encoding, limit_bytes)
