"""Selection is O(log n) in the depth of the queue, counted in comparisons of keys, not in time (L4-22)."""

from __future__ import annotations

import random
from typing import Any

import pytest

from plumbline.contracts.requests import RequestId, TenantId
from plumbline.scheduling.decisions import DecisionCore
from plumbline.scheduling.launch import Launch
from plumbline.scheduling.policies.fifo import FifoPolicy
from plumbline.scheduling.policy import Key
from plumbline.scheduling.request import BatchTerms, ExecutionRequest


class Counted(int):
    """A number that counts how often it is compared."""

    comparisons = 0

    def __lt__(self, other: int) -> bool:
        Counted.comparisons += 1
        return int(self) < int(other)

    def __gt__(self, other: int) -> bool:
        Counted.comparisons += 1
        return int(self) > int(other)

    __hash__ = int.__hash__


class CountingPolicy(FifoPolicy):
    """Random order."""

    def __init__(self) -> None:
        self._random = random.Random(1)

    def enter(self, request: ExecutionRequest, arrival: int) -> Key:
        return (Counted(self._random.randrange(1 << 40)), Counted(arrival))


def cost_per_request(depth: int, batched: bool, keys: int) -> float:
    """Comparisons for one that enters and one that is selected, in a queue of `depth`."""
    core = DecisionCore(policy=CountingPolicy(), capacity=depth + 1, streams=1)

    def submit(number: int) -> None:
        terms: Any = None
        if batched:
            key = f"k{number % keys}"
            terms = BatchTerms(key=key, units=1, max_units=1, max_requests=1, max_delay_ns=5)
        core.submit(
            ExecutionRequest(
                id=RequestId(f"r{number}"), graph=f"g{number % 3}", tenant=TenantId("t"), batch=terms
            ),
            number,
        )

    for number in range(depth):
        submit(number)
    Counted.comparisons, rounds = 0, 300
    for number in range(depth, depth + rounds):
        submit(number)
        launch = core.select(0, depth + rounds + 10)
        assert isinstance(launch, Launch)
        core.finish(launch.number, 0, {launch.requests[0].id: "ok"})
    assert core.depth == depth
    return Counted.comparisons / rounds


@pytest.mark.parametrize(("batched", "keys"), [(False, 1), (True, 3), (True, 1000)])
def test_ten_times_the_depth_costs_a_few_comparisons_more(batched: bool, keys: int) -> None:
    """L4-22: log2(10) is 3.3; each heap on the way may add as many, twice over."""
    costs = [cost_per_request(depth, batched, keys) for depth in (200, 2000, 20000)]
    assert costs[0] > 0
    assert costs[1] - costs[0] < 30
    assert costs[2] - costs[1] < 30
    assert costs[2] < 120


def test_cancelled_requests_are_swept_out_so_memory_stays_flat() -> None:
    """L4-12: what left from the middle does not pile up behind what stays."""
    core = DecisionCore(policy=FifoPolicy(), capacity=10, streams=1)
    core.submit(ExecutionRequest(id=RequestId("stays"), graph="g", tenant=TenantId("t")), 0)
    terms = BatchTerms(key="k", units=1, max_units=4, max_requests=4, max_delay_ns=1000)
    for number in range(5000):
        name = RequestId(f"r{number}")
        core.submit(
            ExecutionRequest(id=name, graph="g", tenant=TenantId("t"), start_by_ns=1 << 40, batch=terms),
            number,
        )
        core.cancel(name, number)
    expiries = core.queue._expiries
    assert len(expiries._items) < 64
    for lane in core.queue._lanes.values():
        assert len(lane._held) + len(lane._ready) < 128
