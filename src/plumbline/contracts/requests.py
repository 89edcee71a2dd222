"""What every layer calls a request: its id, its tenant, its priority and its times.

Times are absolute monotonic nanoseconds of this machine (`contracts.clock`), shared by all its processes. A
deadline is converted once, at the edge, from whatever a client sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NewType

from plumbline.errors import ValidationError

__all__ = [
    "DEFAULT_PRIORITY",
    "HIGHEST_PRIORITY",
    "LOCAL_TENANT",
    "LOWEST_PRIORITY",
    "MAX_REQUEST_ID_BYTES",
    "PriorityRefused",
    "RequestId",
    "RequestIdRefused",
    "TenantId",
    "verify_priority",
    "verify_request_id",
]

RequestId = NewType("RequestId", str)
"""Unique among all requests that are alive; hangs plumb through every layer. Printable ASCII."""

TenantId = NewType("TenantId", str)
"""Who a request is for: quotas, fairness, caches and visibility go by it."""

LOCAL_TENANT = TenantId("local")
"""The explicit tenant of whoever works on this machine without logging in (requirement X-54)."""

LOWEST_PRIORITY = 0
HIGHEST_PRIORITY = 9
"""Higher is more urgent; adapters of other protocols convert."""
DEFAULT_PRIORITY = 5

MAX_REQUEST_ID_BYTES = 128


@dataclass(eq=False, kw_only=True)
class PriorityRefused(ValidationError):
    """A priority outside 0..9 or not a whole number."""

    code = "validation.priority"
    owner = "contracts"
    template = "priority {value}: expected a whole number from 0 (lowest) to 9 (highest)"

    value: str


@dataclass(eq=False, kw_only=True)
class RequestIdRefused(ValidationError):
    """A client's request id that is empty, too long, or not printable ASCII."""

    code = "validation.request_id"
    owner = "contracts"
    template = "request id: {reason}"

    reason: str


def verify_priority(value: object) -> int:
    """The priority itself, when it is one.

    Raises:
        PriorityRefused: it is not a whole number from 0 to 9.
    """
    if (
        isinstance(value, bool)
        or not isinstance(value, int)
        or not LOWEST_PRIORITY <= value <= HIGHEST_PRIORITY
    ):
        raise PriorityRefused(value=repr(value)[:40])
    return value


def verify_request_id(value: str) -> RequestId:
    """The id itself, when it may travel in headers, logs and file names of a trace.

    Raises:
        RequestIdRefused: naming what is wrong.
    """
    if not value:
        raise RequestIdRefused(reason="it is empty")
    if len(value) > MAX_REQUEST_ID_BYTES:
        raise RequestIdRefused(reason=f"{len(value)} characters, at most {MAX_REQUEST_ID_BYTES}")
    if not (value.isascii() and value.isprintable()):
        raise RequestIdRefused(reason="only printable ASCII is allowed")
    return RequestId(value)
