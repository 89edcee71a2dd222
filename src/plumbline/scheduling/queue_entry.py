"""A request in the queue, with what the queue keeps beside it."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import TypeAlias

from plumbline.scheduling.policy import Key
from plumbline.scheduling.request import ExecutionRequest

__all__ = ["GroupKey", "LaneKey", "QueueEntry", "entry_mark", "expiry_of", "group_key", "hold_until"]

LaneKey: TypeAlias = tuple[str, int | None]
"""Graph, and the stream that the requests are bound to (None: any)."""

GroupKey: TypeAlias = tuple[str, int | None, str | None]
"""Lane, and the batch key (None: alone)."""


@dataclass(slots=True, eq=False, kw_only=True)
class QueueEntry:
    """Owned by the `TaskQueue` it is in. `alive` turns false when it leaves."""

    request: ExecutionRequest
    key: Key
    arrival: int
    entered_ns: int
    mark: int
    alive: bool = True


def entry_mark(request_id: str, key: Key) -> int:
    """What a queued request adds to the state digest: 128 bits over its id and key."""
    return int.from_bytes(blake2b(f"{request_id}\0{key}".encode(), digest_size=16).digest(), "little")


def expiry_of(request: ExecutionRequest) -> int | None:
    """From when on a queued request must not start any more, absolute; None for never."""
    if request.deadline_ns is None:
        return request.start_by_ns
    if request.start_by_ns is None:
        return request.deadline_ns
    return min(request.deadline_ns, request.start_by_ns)


def group_key(request: ExecutionRequest) -> GroupKey:
    """Requests of equal group key may share a launch (unless the batch key is None)."""
    return (request.graph, request.stream, request.batch.key if request.batch is not None else None)


def hold_until(request: ExecutionRequest, entered_ns: int) -> int:
    """How long a request may be held back for company, absolute.

    Its delay after it entered, but never more than half of its slack: the time from entering to the latest
    moment at which it can start and still end in time.
    """
    if request.batch is None or request.batch.max_delay_ns <= 0:
        return entered_ns
    due = entered_ns + request.batch.max_delay_ns
    latest = request.start_by_ns
    if request.deadline_ns is not None:
        start = request.deadline_ns - request.cost_bound_ns
        latest = start if latest is None else min(latest, start)
    if latest is None:
        return due
    return max(entered_ns, min(due, entered_ns + (latest - entered_ns) // 2))
