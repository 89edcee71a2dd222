"""What a route is asked and what it answers, without a server: `Asked` and `Answer`."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from plumbline.contracts.identity import LOCAL_PRINCIPAL, Principal
from plumbline.contracts.requests import RequestId

__all__ = ["JSON", "Answer", "Asked"]

JSON = b"application/json"


class Asked(msgspec.Struct, kw_only=True):
    """One request after the shell let it in. The shell fills it; nobody else changes it.

    Attributes:
        method: `GET`, `POST`, ...
        path: decoded, without query.
        request_id: given by the client and verified, or made.
        headers: lower-case names; of a repeated header the last value.
        body: whole and inflated, within the limits.
        query: as it stood in the address.
        principal: who asks.
        arrived_ns: absolute monotonic.
    """

    method: str
    path: str
    request_id: RequestId
    headers: Mapping[bytes, bytes]
    body: bytes = b""
    query: bytes = b""
    principal: Principal = LOCAL_PRINCIPAL
    arrived_ns: int = 0


class Answer(msgspec.Struct, kw_only=True):
    """What goes back: status, body, its media type, and other headers with lower-case names."""

    status: int = 200
    body: bytes = b""
    media_type: bytes = JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()
