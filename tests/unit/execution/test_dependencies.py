import dataclasses
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plumbline.execution.dependencies import (
    Dependency,
    DependencyPlan,
    DependencyTracker,
    SegmentNode,
    SegmentOrderError,
    plan_dependencies,
    required_order,
)
from plumbline.execution.executor import Executor
from plumbline.execution.happens_before import RaceError, verify_happens_before
from plumbline.execution.launch import ActionKind, Launch, LaunchLog, LogEntry
from plumbline.hardware.simulated import SimulatedDevice
from plumbline.hardware.work import CallableLaunch


def node(name: str, stream: str, *after: str) -> SegmentNode:
    return SegmentNode(name=name, stream=stream, after=tuple(Dependency(segment=a) for a in after))


DIAMOND = (node("a", "s0"), node("b", "s0", "a"), node("c", "s1", "a"), node("d", "s0", "b", "c"))


def log_of(plan: DependencyPlan) -> list[LogEntry]:
    launches = [(a, a.segment if a.kind is ActionKind.LAUNCH else a.event) for a in plan.actions]
    return [LogEntry(kind=a.kind, stream=a.stream, name=name) for a, name in launches]


@st.composite
def graphs(draw):
    count = draw(st.integers(1, 9))
    streams = draw(st.integers(1, 4))
    nodes = []
    for index in range(count):
        after = draw(st.sets(st.integers(0, index - 1), max_size=3)) if index else set()
        stream = f"s{draw(st.integers(0, streams - 1))}"
        nodes.append(node(f"n{index}", stream, *(f"n{a}" for a in sorted(after))))
    return tuple(nodes)


def test_a_diamond_records_once_per_awaited_producer():
    """L2-25."""
    plan = plan_dependencies(DIAMOND)
    assert [(a.kind.value, a.stream, a.event or a.segment) for a in plan.actions] == [
        ("launch", "s0", "a"),
        ("record", "s0", "a"),
        ("launch", "s0", "b"),
        ("wait", "s1", "a"),
        ("launch", "s1", "c"),
        ("record", "s1", "c"),
        ("wait", "s0", "c"),
        ("launch", "s0", "d"),
    ]


def test_one_stream_needs_no_event():
    plan = plan_dependencies((node("a", "s"), node("b", "s", "a"), node("c", "s", "a", "b")))
    assert plan.events == ()


def test_a_wait_that_an_earlier_wait_implies_is_left_out():
    plan = plan_dependencies(
        (node("a", "s0"), node("b", "s0", "a"), node("c", "s1", "b"), node("d", "s1", "a"))
    )
    assert plan.events == ("b",)


@pytest.mark.parametrize("nodes", [(node("a", "s", "b"), node("b", "s")), (node("a", "s"), node("a", "s"))])
def test_a_graph_that_is_not_in_order_is_refused(nodes):
    with pytest.raises(SegmentOrderError):
        plan_dependencies(nodes)


@given(graphs())
def test_a_plan_orders_every_dependency(nodes):
    """L2-28."""
    verify_happens_before(log_of(plan_dependencies(nodes)), required_order(nodes))


@given(graphs(), st.randoms(use_true_random=False))
def test_removing_any_wait_is_a_race(nodes, rng: random.Random):
    """L2-25: every planned wait is needed, and the checker sees its loss."""
    plan = plan_dependencies(nodes)
    waits = [a for a in plan.actions if a.kind is ActionKind.WAIT]
    if not waits:
        return
    removed = rng.choice(waits)
    broken = dataclasses.replace(plan, actions=tuple(a for a in plan.actions if a is not removed))
    with pytest.raises(RaceError):
        verify_happens_before(log_of(broken), required_order(nodes))


def run_on_simulated_device(nodes, plan, costs) -> tuple[dict[str, int], LaunchLog]:
    """Run in virtual time; a segment computes 1 + the sum of what it depends on, 0 for what is not there."""
    values: dict[str, int] = {}
    log = LaunchLog()
    seen: dict[str, list[int]] = {n.name: [] for n in nodes}

    def work_of(n: SegmentNode) -> CallableLaunch:
        def compute() -> None:
            values[n.name] = 1 + sum(values.get(d.segment, 0) for d in n.after)
            seen[n.name].append(values[n.name])

        return CallableLaunch(function=compute, label=n.name, cost_ns=costs[n.name])

    launches = {n.name: Launch(segment=n.name, stream=n.stream, work=work_of(n)) for n in nodes}
    with SimulatedDevice() as device, DependencyTracker(device, plan) as tracker:
        streams = {name: device.open_stream(name) for name in plan.streams}
        Executor().run(plan, launches, streams, tracker, log)
    return values, log


@settings(max_examples=50)
@given(graphs(), st.randoms(use_true_random=False))
def test_any_costs_give_the_same_values_and_the_same_log(nodes, rng: random.Random):
    """L2-27: results and launches do not depend on timing."""
    plan = plan_dependencies(nodes)
    expected, first = run_on_simulated_device(nodes, plan, {n.name: 1 for n in nodes})
    values, second = run_on_simulated_device(nodes, plan, {n.name: rng.randint(1, 1000) for n in nodes})
    assert values == expected
    assert first.entries == second.entries
    assert first.digest == second.digest


def test_a_removed_wait_changes_the_result_when_the_producer_is_slow():
    """L2-25: delay the producer, remove the wait, and the consumer reads what is not there yet."""
    plan = plan_dependencies(DIAMOND)
    costs = {"a": 1, "b": 1, "c": 1000, "d": 1}
    good, _ = run_on_simulated_device(DIAMOND, plan, costs)
    broken = dataclasses.replace(
        plan, actions=tuple(a for a in plan.actions if (a.kind, a.event) != (ActionKind.WAIT, "c"))
    )
    bad, log = run_on_simulated_device(DIAMOND, broken, costs)
    assert good["d"] == 5
    assert bad["d"] == 3
    with pytest.raises(RaceError, match="'d' may run before 'c'"):
        verify_happens_before(log.entries, required_order(DIAMOND))


def test_the_launch_log_is_identical_over_a_hundred_runs():
    """L2-27."""
    plan = plan_dependencies(DIAMOND)
    costs = {n.name: 7 for n in DIAMOND}
    digests = {
        run_on_simulated_device(DIAMOND, plan_dependencies(DIAMOND), costs)[1].digest for _ in range(100)
    }
    assert len(digests) == 1
    assert plan == plan_dependencies(DIAMOND)
