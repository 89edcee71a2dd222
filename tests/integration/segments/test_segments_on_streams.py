"""One compiled program as a DAG of segments on several streams, on the CPU and on a simulated device."""

from __future__ import annotations

import dataclasses
from contextlib import ExitStack

import numpy as np
import pytest

from plumbline.execution.context import ExecutionContext
from plumbline.execution.dependencies import DependencyPlan, plan_dependencies, required_order
from plumbline.execution.happens_before import RaceError, verify_happens_before
from plumbline.execution.launch import ActionKind, LaunchLog
from plumbline.execution.segments import SegmentedRun, segment_nodes
from plumbline.hardware.cpu import CpuDevice
from plumbline.hardware.simulated import SimulatedDevice

from .conftest import ROWS, WIDTH


@pytest.fixture
def executable(compiled, two_branches):
    return compiled(two_branches, max_segment_ns=1)


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(3).standard_normal((ROWS, WIDTH)).astype(np.float32)


@pytest.fixture(params=[CpuDevice, SimulatedDevice], ids=["cpu", "simulated"])
def device(request):
    with request.param() as device:
        yield device


def context_on(executable, stream) -> ExecutionContext:
    return ExecutionContext(
        executable.manifest, executable.entries, stream, executable.weights.ctypes.data, 0
    )


def run_once(executable, device, x, streams: int, plan: DependencyPlan | None = None, costs=None):
    """Outputs, log and virtual nanoseconds (0 on a real device) of one run on an arena full of NaN."""
    nodes = segment_nodes(executable.manifest, streams)
    log = LaunchLog()
    with ExitStack() as stack:
        lanes = [stack.enter_context(device.open_stream(f"lane{i}")) for i in range(streams)]
        context = stack.enter_context(context_on(executable, lanes[0]))
        launches = context.launches
        if costs is not None:
            launches = [dataclasses.replace(w, cost_ns=c) for w, c in zip(launches, costs, strict=True)]
        context.fill_arena(0xFF)
        context.inputs["x"][...] = x
        began = getattr(getattr(device, "clock", None), "now_ns", 0)
        with SegmentedRun(device, nodes, launches, lanes, plan) as segmented:
            segmented.run(log)
        took = getattr(getattr(device, "clock", None), "now_ns", 0) - began
        return {name: view.copy() for name, view in context.outputs.items()}, log, took


def plain_outputs(executable, x) -> dict[str, np.ndarray]:
    with (
        CpuDevice() as device,
        device.open_stream("plain") as stream,
        context_on(executable, stream) as context,
    ):
        context.inputs["x"][...] = x
        context.run()
        return {name: view.copy() for name, view in context.outputs.items()}


def test_two_branches_become_segments_that_do_not_wait_for_each_other(executable):
    """L2-25: only addresses order segments; the branches touch different ones until they join."""
    nodes = segment_nodes(executable.manifest, 2)
    ordered = {frozenset(pair) for pair in required_order(nodes)}
    assert len(nodes) == 5
    assert {node.stream for node in nodes} == {"s0", "s1"}
    assert frozenset(("segment0", "segment1")) in ordered or frozenset(("segment0", "segment2")) in ordered
    assert len(ordered) < len(nodes) * (len(nodes) - 1) // 2


def test_one_and_two_streams_give_the_bits_of_one_segment(compiled, two_branches, executable, device, x):
    """L2-28: cuts and streams change no bit, whatever the arena held."""
    expected = plain_outputs(compiled(two_branches), x)
    for streams in (1, 2, 3):
        outputs, log, _ = run_once(executable, device, x, streams)
        verify_happens_before(log.entries, required_order(segment_nodes(executable.manifest, streams)))
        for name, array in expected.items():
            np.testing.assert_array_equal(outputs[name], array, err_msg=f"{name} on {streams} streams")
    assert device.registry.live_by_kind() == {"device": 1}


def test_independent_segments_overlap_in_virtual_time(executable, x):
    """L2-25: five segments of equal cost take five units on one stream and three on two."""
    costs = [1_000] * 5
    with SimulatedDevice() as device:
        _, _, alone = run_once(executable, device, x, 1, costs=costs)
        _, _, spread = run_once(executable, device, x, 2, costs=costs)
    assert (alone, spread) == (5_000, 3_000)


def test_every_removed_wait_is_a_race_and_changes_the_result(executable, x):
    """L2-25: the checker objects, and with a slow producer the consumer reads what is not there."""
    nodes = segment_nodes(executable.manifest, 2)
    plan = plan_dependencies(nodes)
    waits = [action for action in plan.actions if action.kind is ActionKind.WAIT]
    expected = plain_outputs(executable, x)
    assert waits
    for removed in waits:
        broken = dataclasses.replace(plan, actions=tuple(a for a in plan.actions if a is not removed))
        costs = [1_000_000 if node.name == removed.event else 1 for node in nodes]
        with SimulatedDevice() as device:
            good, _, _ = run_once(executable, device, x, 2, plan, costs)
            bad, log, _ = run_once(executable, device, x, 2, broken, costs)
        with pytest.raises(RaceError):
            verify_happens_before(log.entries, required_order(nodes))
        assert all(np.array_equal(good[name], expected[name]) for name in expected)
        assert not all(np.array_equal(bad[name], expected[name]) for name in expected)


def test_a_wait_removed_on_the_cpu_is_caught_by_the_log_alone(executable, x):
    """L2-25: on a real device the order may hold by luck; the checker does not rely on it."""
    nodes = segment_nodes(executable.manifest, 2)
    plan = plan_dependencies(nodes)
    removed = next(a for a in plan.actions if a.kind is ActionKind.WAIT)
    broken = dataclasses.replace(plan, actions=tuple(a for a in plan.actions if a is not removed))
    with CpuDevice() as device:
        _, log, _ = run_once(executable, device, x, 2, broken)
    with pytest.raises(RaceError, match="no stream or event orders them"):
        verify_happens_before(log.entries, required_order(nodes))


def test_a_hundred_runs_on_two_streams_give_the_same_bits_and_log(executable, x):
    """L2-27."""
    with CpuDevice() as device, ExitStack() as stack:
        lanes = [stack.enter_context(device.open_stream(f"lane{i}")) for i in range(2)]
        context = stack.enter_context(context_on(executable, lanes[0]))
        nodes = segment_nodes(executable.manifest, 2)
        segmented = stack.enter_context(SegmentedRun(device, nodes, context.launches, lanes))
        context.run_through(segmented.run)
        context.inputs["x"][...] = x
        seen = set()
        for _ in range(100):
            context.run()
            seen.add(b"".join(view.tobytes() for view in context.outputs.values()))
    assert len(seen) == 1


def test_a_step_above_the_limit_is_reported_by_name(compiled, two_branches, executable):
    """A single step cannot be cut: it is a segment of its own, and the report says so."""
    notes = [r for r in executable.report.rewrites if r.pass_name == "plan_segments"]
    refused = [r for r in notes if r.kind == "refused"]
    assert {r.subject for r in refused} == set(executable.manifest.step_names)
    assert all("cannot be cut" in r.detail for r in refused)
    roomy = compiled(two_branches, max_segment_ns=10**9)
    notes = [r for r in roomy.report.rewrites if r.pass_name == "plan_segments"]
    assert [(n.kind, n.subject) for n in notes] == [("partitioned", "program")]
