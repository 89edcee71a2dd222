"""What a request may ask of the scheduler: whole numbers within bounds."""

from __future__ import annotations

from typing import NewType

from plumbline.contracts.requests import verify_priority
from plumbline.scheduling.refusals import ExecutionRequestRefused
from plumbline.scheduling.request import ExecutionRequest

__all__ = ["LATEST_NS", "LONGEST_COST_NS", "MOST_SEGMENTS", "VerifiedRequest", "verify_execution_request"]

LATEST_NS = 1 << 62
"""Times are below this: 146 years after the machine started."""

LONGEST_COST_NS = 3600 * 1_000_000_000
"""One hour: no launch is bounded by more."""

MOST_SEGMENTS = 65536

VerifiedRequest = NewType("VerifiedRequest", ExecutionRequest)
"""A request that `verify_execution_request` has seen; who has one need not look again."""


def verify_execution_request(request: ExecutionRequest) -> VerifiedRequest:
    """Check the numbers of a request; the request itself, as one that was checked.

    Raises:
        ExecutionRequestRefused: naming the field: a deadline at or before arrival, a negative cost, segment
            bounds that do not sum up to the cost, batch terms without room for the request itself.
        PriorityRefused: the priority is not one.
    """
    verify_priority(request.priority)
    _verify_whole(request, "arrived_ns", request.arrived_ns, 0, LATEST_NS)
    for field in ("deadline_ns", "start_by_ns"):
        moment_ns = getattr(request, field)
        if moment_ns is not None:
            _verify_whole(request, field, moment_ns, 0, LATEST_NS)
            if moment_ns <= request.arrived_ns:
                raise _refused(request, field, moment_ns, f"not after the arrival {request.arrived_ns}")
    _verify_whole(request, "cost_bound_ns", request.cost_bound_ns, 0, LONGEST_COST_NS)
    if request.segment_bounds_ns:
        _verify_segments(request)
    if request.period_ns is not None:
        _verify_whole(request, "period_ns", request.period_ns, 1, LATEST_NS)
    if request.batch is not None:
        _verify_batch(request)
    return VerifiedRequest(request)


def _verify_segments(request: ExecutionRequest) -> None:
    bounds = request.segment_bounds_ns
    _verify_whole(request, "segments", len(bounds), 1, MOST_SEGMENTS)
    for bound_ns in bounds:
        _verify_whole(request, "segment_bounds_ns", bound_ns, 0, LONGEST_COST_NS)
    if sum(bounds) != request.cost_bound_ns:
        raise _refused(
            request, "segment_bounds_ns", sum(bounds), f"do not sum up to the cost {request.cost_bound_ns}"
        )


def _verify_batch(request: ExecutionRequest) -> None:
    terms = request.batch
    if terms is None:
        return
    _verify_whole(request, "batch.max_requests", terms.max_requests, 1, LATEST_NS)
    _verify_whole(request, "batch.units", terms.units, 0, LATEST_NS)
    _verify_whole(request, "batch.max_delay_ns", terms.max_delay_ns, 0, LONGEST_COST_NS)
    if not isinstance(terms.max_units, int) or terms.units > terms.max_units:
        raise _refused(request, "batch.max_units", terms.max_units, f"below its own {terms.units} units")


def _verify_whole(request: ExecutionRequest, field: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _refused(request, field, value, "not a whole number")
    if not low <= value <= high:
        raise _refused(request, field, value, f"outside {low}..{high}")


def _refused(request: ExecutionRequest, field: str, value: object, reason: str) -> ExecutionRequestRefused:
    return ExecutionRequestRefused(
        request_id=str(request.id)[:128], field=field, value=repr(value)[:60], reason=reason
    )
