"""Two tenants, whatever their load: equal shares by cost within the stated bound (L4-08)."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from plumbline.contracts.requests import RequestId, TenantId
from plumbline.scheduling.decisions import DecisionCore
from plumbline.scheduling.launch import Launch
from plumbline.scheduling.policies.fair import DEFAULT_COST_NS, FairPolicy
from plumbline.scheduling.request import ExecutionRequest


def request(tenant: str, number: int, cost_ns: int) -> ExecutionRequest:
    return ExecutionRequest(
        id=RequestId(f"{tenant}-{number}"), graph="m@1", tenant=TenantId(tenant), cost_bound_ns=cost_ns
    )


def select(core: DecisionCore, now_ns: int) -> ExecutionRequest:
    launch = core.select(0, now_ns)
    assert isinstance(launch, Launch)
    core.finish(launch.number, now_ns, {launch.requests[0].id: "ok"})
    return launch.requests[0]


def test_ten_times_the_load_gets_no_more_than_an_equal_share() -> None:
    """L4-08: 10:1 arrivals, both always queued; the shares never differ by more than two costs."""
    core = DecisionCore(policy=FairPolicy(), capacity=10_000, streams=1)
    served: Counter[str] = Counter()
    heavy = light = 0
    for turn in range(2000):
        while heavy < 10 * (turn + 1) and core.depth < 5000:
            core.submit(request("heavy", heavy, 1000), turn)
            heavy += 1
        if light <= turn:
            core.submit(request("light", light, 1000), turn)
            light += 1
        served[select(core, turn).tenant] += 1000
        assert abs(served["heavy"] - served["light"]) <= 2000
    assert served["light"] == served["heavy"] == 1_000_000


costs = st.integers(min_value=1, max_value=50_000)


@given(a=st.lists(costs, min_size=20, max_size=60), b=st.lists(costs, min_size=20, max_size=60))
@settings(max_examples=80)
def test_shares_differ_by_at_most_the_sum_of_the_largest_costs(a: list[int], b: list[int]) -> None:
    """The bound of the docstring, for any costs, over every interval in which both are queued."""
    core = DecisionCore(policy=FairPolicy(), capacity=1000, streams=1)
    for tenant, own in (("a", a), ("b", b)):
        for number, cost_ns in enumerate(own):
            core.submit(request(tenant, number, cost_ns), 0)
    left, differences = Counter(a=len(a), b=len(b)), [0]
    while left["a"] and left["b"]:
        chosen = select(core, 0)
        left[chosen.tenant] -= 1
        sign = 1 if chosen.tenant == "a" else -1
        differences.append(differences[-1] + sign * chosen.cost_bound_ns)
    assert max(differences) - min(differences) <= max(a) + max(b)


def test_a_tenant_that_was_away_gets_no_credit_for_it() -> None:
    core = DecisionCore(policy=FairPolicy(), capacity=1000, streams=1)
    for number in range(100):
        core.submit(request("busy", number, 1000), 0)
    for _ in range(50):
        select(core, 0)
    for number in range(50):
        core.submit(request("late", number, 1000), 1)
    first = Counter(select(core, 1).tenant for _ in range(20))
    assert abs(first["busy"] - first["late"]) <= 2


def test_cancelled_requests_cost_their_tenant_nothing_once_none_is_left() -> None:
    core = DecisionCore(policy=FairPolicy(), capacity=1000, streams=1)
    core.submit(request("other", 0, 1000), 0)
    for number in range(200):
        core.submit(request("unlucky", number, 10_000), 0)
    for number in range(200):
        core.cancel(f"unlucky-{number}", 0)
    for number in range(1, 20):
        core.submit(request("other", number, 1000), 0)
    core.submit(request("unlucky", 999, 1000), 0)
    assert "unlucky" in [select(core, 0).tenant for _ in range(3)]


def test_a_request_without_a_cost_counts_as_the_stated_default() -> None:
    core = DecisionCore(policy=FairPolicy(), capacity=1000, streams=1)
    for number in range(40):
        core.submit(request("unknown", number, 0), 0)
        core.submit(request("known", number, DEFAULT_COST_NS), 0)
    served = Counter(select(core, 0).tenant for _ in range(40))
    assert abs(served["unknown"] - served["known"]) <= 2


def test_the_policy_forgets_tenants_that_are_gone() -> None:
    policy = FairPolicy()
    core = DecisionCore(policy=policy, capacity=10_000, streams=1)
    core.submit(request("stays", 0, 3_600_000_000_000), 0)
    for number in range(3000):
        core.submit(request(f"visitor-{number}", 0, 1000), number)
        core.submit(request("stays", number + 1, 1000), number)
        select(core, number)
        select(core, number)
    tenants = len(policy.state()["tenants"])
    assert tenants <= 2 * core.depth + 65
