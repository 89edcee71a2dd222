"""Every policy of ours, and a toy one that only this file knows, pass the same suite (L4-05, L4-43, X-70)."""

from __future__ import annotations

from typing import Any, ClassVar

from plumbline.contracts.requests import RequestId, TenantId
from plumbline.scheduling.decisions import DecisionCore
from plumbline.scheduling.launch import Launch
from plumbline.scheduling.policies.earliest_deadline_first import EarliestDeadlineFirstPolicy
from plumbline.scheduling.policies.fair import FairPolicy
from plumbline.scheduling.policies.fifo import FifoPolicy
from plumbline.scheduling.policies.priority import PriorityPolicy
from plumbline.scheduling.policies.rate_monotonic import RateMonotonicPolicy
from plumbline.scheduling.policies.registry import open_policy
from plumbline.scheduling.policy import Key, SchedulingPolicy
from plumbline.scheduling.request import ExecutionRequest
from plumbline.testing.policies import PolicyConformance


class LastComeFirstServed:
    """A toy: the newest request goes first."""

    name: ClassVar[str] = "lifo"
    starves: ClassVar[bool] = True
    starvation: ClassVar[str] = "a request waits as long as others keep arriving"

    def __init__(self) -> None:
        self.entered = 0

    def enter(self, request: ExecutionRequest, arrival: int) -> Key:
        self.entered += 1
        return (-arrival, arrival)

    def leave(self, request: ExecutionRequest, key: Key, *, selected: bool) -> None:
        pass

    def reason(self, request: ExecutionRequest, key: Key) -> str:
        return f"it came last (arrival {key[-1]})"

    def compare(self, winner: Key, loser: Key) -> str:
        return f"{winner[-1]} came after {loser[-1]}"

    def state(self) -> dict[str, Any]:
        return {"entered": self.entered}

    def restore(self, state: dict[str, Any]) -> None:
        self.entered = state["entered"]


class TestFifo(PolicyConformance):
    def make_policy(self) -> SchedulingPolicy:
        return FifoPolicy()


class TestPriority(PolicyConformance):
    def make_policy(self) -> SchedulingPolicy:
        return PriorityPolicy()


class TestFair(PolicyConformance):
    def make_policy(self) -> SchedulingPolicy:
        return FairPolicy()


class TestEarliestDeadlineFirst(PolicyConformance):
    def make_policy(self) -> SchedulingPolicy:
        return EarliestDeadlineFirstPolicy()


class TestRateMonotonic(PolicyConformance):
    def make_policy(self) -> SchedulingPolicy:
        return RateMonotonicPolicy()


class TestToy(PolicyConformance):
    def make_policy(self) -> SchedulingPolicy:
        return LastComeFirstServed()


def test_a_policy_of_a_test_file_found_by_name_drives_the_scheduler_unchanged(monkeypatch: Any) -> None:
    """L4-05, X-70: `module:Class`, and nothing of the core knows it."""
    import sys
    import types

    module = types.ModuleType("toy_policies")
    module.LastComeFirstServed = LastComeFirstServed  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "toy_policies", module)
    core = DecisionCore(policy=open_policy("toy_policies:LastComeFirstServed"), capacity=8, streams=1)
    for name in ("a", "b", "c"):
        core.submit(ExecutionRequest(id=RequestId(name), graph="m@1", tenant=TenantId("t")), 0)
    order = []
    while core.depth:
        launch = core.select(0, 0)
        assert isinstance(launch, Launch)
        order.append(launch.requests[0].id)
    assert order == ["c", "b", "a"]
