"""Requests as records hold them, and back."""

from __future__ import annotations

from plumbline.contracts.records import BatchFacts, RequestFacts
from plumbline.contracts.requests import RequestId, TenantId
from plumbline.scheduling.request import BatchTerms, ExecutionRequest

__all__ = ["request_facts", "request_from_facts"]


def request_facts(request: ExecutionRequest) -> RequestFacts:
    """Every field of a request as plain values."""
    terms = request.batch
    batch = None
    if terms is not None:
        batch = BatchFacts(terms.key, terms.units, terms.max_units, terms.max_requests, terms.max_delay_ns)
    return RequestFacts(
        request.id,
        request.graph,
        request.tenant,
        request.priority,
        request.arrived_ns,
        request.deadline_ns,
        request.start_by_ns,
        request.cost_bound_ns,
        request.segment_bounds_ns,
        request.period_ns,
        request.task,
        request.stream,
        batch,
    )


def request_from_facts(facts: RequestFacts) -> ExecutionRequest:
    """The request that gave `facts`."""
    batch = facts.batch
    terms = None
    if batch is not None:
        terms = BatchTerms(
            key=batch.key,
            units=batch.units,
            max_units=batch.max_units,
            max_requests=batch.max_requests,
            max_delay_ns=batch.max_delay_ns,
        )
    return ExecutionRequest(
        id=RequestId(facts.id),
        graph=facts.graph,
        tenant=TenantId(facts.tenant),
        priority=facts.priority,
        arrived_ns=facts.arrived_ns,
        deadline_ns=facts.deadline_ns,
        start_by_ns=facts.start_by_ns,
        cost_bound_ns=facts.cost_bound_ns,
        segment_bounds_ns=facts.segment_bounds_ns,
        period_ns=facts.period_ns,
        task=facts.task,
        stream=facts.stream,
        batch=terms,
    )
