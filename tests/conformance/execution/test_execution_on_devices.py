"""Executor, tracker and capture behave the same on every device."""

import threading

import pytest

from plumbline.execution.capture import CaptureMisuseError, GraphCapture
from plumbline.execution.dependencies import (
    Dependency,
    DependencyTracker,
    SegmentNode,
    plan_dependencies,
)
from plumbline.execution.executor import Executor
from plumbline.execution.launch import ActionKind, Launch, LaunchLog
from plumbline.hardware.cpu import CpuDevice
from plumbline.hardware.simulated import SimulatedDevice
from plumbline.hardware.work import LaunchFailedError
from plumbline.telemetry.sinks import MemorySink
from plumbline.telemetry.trace import verify_trace
from plumbline.testing.devices import failing_work, quick_work, slow_work

NODES = (
    SegmentNode(name="produce", stream="s0"),
    SegmentNode(name="consume", stream="s1", after=(Dependency(segment="produce", tensor="x"),)),
    SegmentNode(name="finish", stream="s0", after=(Dependency(segment="consume", tensor="y"),)),
)
PLAN = plan_dependencies(NODES)


@pytest.fixture(params=[CpuDevice, SimulatedDevice], ids=["cpu", "simulated"])
def device(request):
    with request.param() as device:
        yield device


@pytest.fixture
def streams(device):
    return {name: device.open_stream(name) for name in PLAN.streams}


def launches_into(done: list[str]) -> dict[str, Launch]:
    def work(name: str):
        maker = slow_work if name == "produce" else quick_work
        return maker(lambda: done.append(name))

    return {
        n.name: Launch(segment=n.name, stream=n.stream, work=work(n.name), requests=("r1",)) for n in NODES
    }


def test_segments_on_two_streams_run_in_dependency_order(device, streams):
    """L2-25, L2-28."""
    done: list[str] = []
    log = LaunchLog()
    with DependencyTracker(device, PLAN) as tracker:
        for _ in range(3):
            Executor().run(PLAN, launches_into(done), streams, tracker, log, timeout_s=60)
    assert done == ["produce", "consume", "finish"] * 3
    assert {entry.kind for entry in log.entries} == set(ActionKind)
    assert device.registry.live_by_kind() == {"device": 1, "stream": 2}


def test_a_replay_equals_a_plain_run(device, streams):
    """L2-26: same results, same log."""
    plain, replayed = LaunchLog(), LaunchLog()
    done: list[str] = []
    with DependencyTracker(device, PLAN) as tracker:
        Executor().run(PLAN, launches_into(done), streams, tracker, plain, timeout_s=60)
        first = list(done)
        capture = GraphCapture(streams)
        Executor().issue(PLAN, launches_into(done), capture.streams, tracker, capture)
        assert done == first
        graph = capture.finish()
        graph.replay(replayed, timeout_s=60)
    assert done == first * 2
    assert replayed.digest == plain.digest


def test_a_captured_stream_refuses_what_cannot_be_replayed(device, streams):
    capture = GraphCapture(streams)
    stream = capture.streams["s0"]
    for call in (stream.synchronize, stream.quiesce, lambda: stream.run(quick_work(lambda: None))):
        with pytest.raises(CaptureMisuseError):
            call()


def test_a_failing_segment_is_raised_and_its_dependents_do_not_run(device, streams):
    """L0-05, L0-23: and the next run works."""
    done: list[str] = []
    launches = launches_into(done)
    broken = {**launches, "produce": Launch(segment="produce", stream="s0", work=failing_work())}
    with DependencyTracker(device, PLAN) as tracker:
        with pytest.raises(LaunchFailedError):
            Executor().run(PLAN, broken, streams, tracker, timeout_s=60)
        assert done == []
        Executor().run(PLAN, launches, streams, tracker, timeout_s=60)
    assert done == ["produce", "consume", "finish"]


def test_two_threads_share_one_executor(device):
    """L2-24: no state, no cross-talk."""
    executor = Executor()
    results: dict[int, list[str]] = {0: [], 1: []}

    def run(index: int) -> None:
        own = {name: device.open_stream(f"{name}.{index}") for name in PLAN.streams}
        with DependencyTracker(device, PLAN) as tracker:
            for _ in range(3):
                executor.run(PLAN, launches_into(results[index]), own, tracker, timeout_s=60)

    threads = [threading.Thread(target=run, args=(index,)) for index in results]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results == {0: ["produce", "consume", "finish"] * 3, 1: ["produce", "consume", "finish"] * 3}
    assert not hasattr(executor, "__dict__")


def test_a_traced_run_emits_one_point_for_each_action(device, streams):
    """X-40, X-41: counts equal the launch log, pairs match."""
    sink, log = MemorySink(), LaunchLog()
    with DependencyTracker(device, PLAN) as tracker:
        Executor().run_traced(PLAN, launches_into([]), streams, tracker, sink, log, timeout_s=60)
    verify_trace(sink.points)
    kinds = [point.event for point in sink.points]
    assert kinds.count("kernel_launch") == sum(e.kind is ActionKind.LAUNCH for e in log.entries) == 3
    assert kinds.count("event_record") == kinds.count("event_wait") == 2
    assert len(kinds) == len(log.entries)


def test_an_inline_run_returns_with_the_work_done(device, streams):
    done: list[str] = []
    sink = MemorySink()
    launch = launches_into(done)["consume"]
    Executor().run_inline(launch, streams["s0"])
    Executor().run_inline_traced(launch, streams["s0"], sink)
    assert done == ["consume"] * 2
    assert sink.points[0].duration_ns > 0
