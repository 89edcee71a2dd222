"""`ExecutionRequest`: what is to be scheduled (requirement L4-11). Plain values, integer nanoseconds."""

from __future__ import annotations

from dataclasses import dataclass

from plumbline.contracts.requests import DEFAULT_PRIORITY, RequestId, TenantId

__all__ = ["BatchTerms", "ExecutionRequest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchTerms:
    """With whom a request may share a launch.

    Attributes:
        key: requests of equal key may share one launch; it names model version and whatever shape must agree,
            and the tenant too where the version asks for launches of one tenant only.
        units: what this request takes of the bound: rows, or tokens of packed text.
        max_units: most units of one launch.
        max_requests: most requests of one launch.
        max_delay_ns: how long the oldest request of an unfilled launch may be held back for company while a
            stream is idle. 0 never waits.
    """

    key: str
    units: int
    max_units: int
    max_requests: int
    max_delay_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionRequest:
    """One unit of work for a stream.

    Attributes:
        id: unique.
        graph: name of the executable, `model@version`.
        tenant: for whom.
        priority: 0..9, higher is more urgent.
        arrived_ns: when it entered, absolute.
        deadline_ns: when it must be done, absolute; None for no deadline.
        start_by_ns: when it must have started, absolute; one still queued then expires. None waits for ever.
        cost_bound_ns: how long it takes at most on its stream, dispatch included; 0 where nobody has
            calibrated it (such a request can have a deadline, never a promise).
        segment_bounds_ns: the same for each segment, in order; the sum is `cost_bound_ns`. Between segments
            the stream may be given to another request. Empty means one segment.
        period_ns: for rate-monotonic order: smallest time between two releases of the task it belongs to.
        task: name of the periodic task it belongs to, or None.
        stream: index of the stream that it is bound to, or None for any.
        batch: with whom it may share a launch; None for alone.
    """

    id: RequestId
    graph: str
    tenant: TenantId
    priority: int = DEFAULT_PRIORITY
    arrived_ns: int = 0
    deadline_ns: int | None = None
    start_by_ns: int | None = None
    cost_bound_ns: int = 0
    segment_bounds_ns: tuple[int, ...] = ()
    period_ns: int | None = None
    task: str | None = None
    stream: int | None = None
    batch: BatchTerms | None = None
