"""Choices of the operator about tasks."""

from __future__ import annotations

from dataclasses import dataclass, field

from plumbline.contracts.models import VersionKind
from plumbline.serving.tasks.store import QueueLimits

__all__ = ["TaskOptions"]

MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOptions:
    """Attributes:
    slots: tasks that run at once at this gateway.
    lease_s: a running task that shows no sign of life for so long is given to another gateway.
    beat_s: how often a running task shows one.
    poll_s: how often an idle executor looks for tasks that other gateways accepted.
    stall_s: a running task without progress for so long is reported as stalled.
    default_timeout_s: from acceptance to the end, for a task that says nothing.
    retention_s: how long a finished task can be read.
    max_claims: executors that may die on a task before it is failed.
    max_refusals: how often a transient refusal of the engine is waited out for one claim.
    max_request_bytes: of a request body.
    max_result_bytes: of a result body.
    limits: of the queue.
    cacheable: kinds of versions whose result depends on the inputs alone.
    cache_ttl_s: how long a result answers for identical calls; 0 for never.
    cache_bytes: most bytes of results in memory.
    """

    slots: int = 4
    lease_s: float = 10.0
    beat_s: float = 2.0
    poll_s: float = 0.5
    stall_s: float = 30.0
    default_timeout_s: float = 3600.0
    retention_s: float = 7 * 86400.0
    max_claims: int = 3
    max_refusals: int = 8
    max_request_bytes: int = 4 * MIB
    max_result_bytes: int = 16 * MIB
    limits: QueueLimits = field(default_factory=QueueLimits)
    cacheable: frozenset[VersionKind] = frozenset({VersionKind.MODEL, VersionKind.TEXT})
    cache_ttl_s: float = 300.0
    cache_bytes: int = 64 * MIB
