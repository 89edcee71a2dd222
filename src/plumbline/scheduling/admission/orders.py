"""The orders for which a test is exact, and the refusal for every other policy.

First come first served and fair sharing have no test here: under them a long queue of others can delay
any request, and no bound on their number is promised.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from plumbline.errors import PolicyError
from plumbline.scheduling.admission.tasks import MAX_TIME_NS, OneShot, PeriodicTask

__all__ = ["GUARANTEED", "Order", "PolicyWithoutGuarantee", "order_of", "rank_of"]


class Order(StrEnum):
    """Who goes first among promised jobs."""

    EDF = "edf"
    """Earliest absolute deadline first; equal deadlines in order of arrival."""
    PRIORITY = "priority"
    """Highest priority first; equal priorities in order of arrival."""
    RATE_MONOTONIC = "rate_monotonic"
    """Shortest period first; equal periods in order of arrival."""


GUARANTEED = tuple(Order)

_ALIASES = {
    "earliest_deadline": Order.EDF,
    "earliest-deadline": Order.EDF,
    "earliest_deadline_first": Order.EDF,
    "rate-monotonic": Order.RATE_MONOTONIC,
}


@dataclass(eq=False, kw_only=True)
class PolicyWithoutGuarantee(PolicyError):
    """A promise was asked for under a policy without an exact admission test; it still serves best effort."""

    code = "policy.no_guarantee"
    owner = "scheduling"
    http_status = 409
    template = "policy {policy!r} gives no guarantee, so nothing is promised under it; these do: {guaranteed}"

    policy: str
    guaranteed: str


def order_of(policy: str) -> Order:
    """The order that a scheduling policy, by its name, gives to promised jobs.

    Raises:
        PolicyWithoutGuarantee: the policy has no exact test.
    """
    found = _ALIASES.get(policy) or next((order for order in Order if order.value == policy), None)
    if found is None:
        raise PolicyWithoutGuarantee(policy=policy, guaranteed=", ".join(GUARANTEED))
    return found


def rank_of(work: PeriodicTask | OneShot, order: Order) -> int:
    """Place of a task in a fixed order, lower is more urgent; 0 for all under `Order.EDF`."""
    if order is Order.PRIORITY:
        return -work.priority
    if order is Order.RATE_MONOTONIC:
        return MAX_TIME_NS + 1 if work.period_ns is None else work.period_ns
    return 0
