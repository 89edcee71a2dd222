"""What happens around a launch: batching, preemption, faults, traces and records."""

import time

import numpy as np
import pytest

from plumbline.contracts.clock import FakeClock
from plumbline.contracts.inference import InferenceResult, VersionRef
from plumbline.contracts.records import Arrival, Boundary, Finish, LaunchStart, Selection
from plumbline.engine.loop import ThreadRoleBroken
from plumbline.engine.outcomes import EngineFailed, LaunchDefect
from plumbline.engine.result import OutputUndecodable
from plumbline.errors import BackendError, DecodingError, ErrorClass, ExecutionError, Recoverability
from plumbline.scheduling.policies.earliest_deadline_first import EarliestDeadlineFirstPolicy
from plumbline.scheduling.policies.priority import PriorityPolicy
from plumbline.telemetry.points import KernelLaunch, PolicySelection
from plumbline.telemetry.sinks import MemorySink
from plumbline.telemetry.trace import verify_trace
from plumbline.testing.sessions import HANG_S, EchoSession, FailingSession, Outcomes, SlowSession, echo_call

URGENT = VersionRef(model="urgent", version="1")
LANES = pytest.mark.parametrize(("lanes", "inline"), [(1, True), (1, False)])


def wait_until(happened):
    limit_s = time.monotonic() + HANG_S
    while not happened():
        assert time.monotonic() < limit_s
        time.sleep(0.001)


class DeviceGone(BackendError):
    code = "backend.testing_device_gone"
    recoverability = Recoverability.FATAL
    template = "the device is gone"


class Broken(ExecutionError):
    code = "execution.testing_broken"
    template = "broken"


def test_requests_that_wait_together_share_launches_and_get_their_own_rows(engine, ref):
    """L4-62: N similar requests, fewer launches, the outputs of each its own."""
    scheduler = engine()
    session = SlowSession(ref, gated=True, max_rows=8)
    scheduler.load(ref, session)
    scheduler.start()
    told = Outcomes()
    scheduler.submit(ref, echo_call("first", ref), told)
    assert session.entered.wait(HANG_S)
    for number in range(12):
        scheduler.submit(ref, echo_call(f"r{number}", ref, rows=1 + number % 2, value=number), told)
    session.gate.set()
    outcomes = told.wait(13)
    assert session.launches == [1, 5, 5, 2]
    assert [o.timing.batched for o in outcomes] == [1] + [5] * 10 + [2] * 2
    for number, outcome in enumerate(outcomes[1:]):
        assert outcome.outputs["y"].tolist() == [[float(number)] * 4] * (1 + number % 2)


def test_a_launch_waits_for_company_no_longer_than_told(engine, ref):
    clock = FakeClock(1_000_000)
    scheduler = engine(clock=clock)
    session = EchoSession(ref, max_rows=3, max_delay_ns=40_000_000)
    scheduler.load(ref, session)
    scheduler.start()
    told = Outcomes()
    for number in range(4):
        scheduler.submit(ref, echo_call(f"r{number}", ref), told)
    assert [o.id for o in told.wait(3)] == ["r0", "r1", "r2"]
    clock.advance(39_999_999)
    steps = scheduler.steps
    wait_until(lambda: scheduler.steps > steps + 1)
    assert session.launches == [3]
    clock.advance(1)
    last = told.wait(4)[3]
    assert session.launches == [3, 1]
    assert last.timing.launched_ns - last.timing.queued_ns == 40_000_000


def test_a_launch_without_company_waits_in_real_time_too(engine, ref):
    scheduler = engine()
    scheduler.load(ref, EchoSession(ref, max_rows=3, max_delay_ns=20_000_000))
    scheduler.start()
    told = Outcomes()
    scheduler.submit(ref, echo_call("alone", ref), told)
    timing = told.wait()[0].timing
    assert timing.launched_ns - timing.queued_ns >= 20_000_000


@LANES
@pytest.mark.parametrize("policy", [PriorityPolicy(), EarliestDeadlineFirstPolicy()])
def test_a_more_urgent_request_runs_between_two_segments_of_another(engine, ref, policy, lanes, inline):
    """The stream goes to the urgent one and comes back: one stack, results of both correct."""
    records = []
    scheduler = engine(lanes=lanes, inline=inline, policy=policy, record=records.append)
    long, short = SlowSession(ref, gated=True, segments=3), EchoSession(URGENT)
    scheduler.load(ref, long)
    scheduler.load(URGENT, short)
    scheduler.start()
    told = Outcomes()
    far_ns = time.monotonic_ns() + 3600 * 10**9
    scheduler.submit(ref, echo_call("long", ref, priority=1, value=7.0, deadline_ns=far_ns), told)
    assert long.entered.wait(HANG_S)
    scheduler.submit(URGENT, echo_call("short", URGENT, priority=9, deadline_ns=far_ns - 1), told)
    scheduler.submit(URGENT, echo_call("lazy", URGENT, priority=0, deadline_ns=far_ns + 1), told)
    if not inline:  # the lane stands in a segment of its own thread; let the loop see both first
        wait_until(lambda: sum(isinstance(r, Arrival) for r in records) == 3)
    long.gate.set()
    outcomes = told.wait(3)
    assert [o.id for o in outcomes] == ["short", "long", "lazy"]
    assert outcomes[1].outputs["y"].tolist() == [[7.0] * 4]
    assert long.order == [0, 1, 2]
    nested = [r for r in records if isinstance(r, Selection)][1]
    assert nested.requests == ("short",)
    assert nested.above is not None
    assert any(isinstance(r, Boundary) and r.segment == 1 for r in records)


@LANES
@pytest.mark.parametrize("each", [False, True])
def test_an_exception_in_a_launch_fails_its_requests_as_our_defect_and_the_engine_goes_on(
    engine, ref, lanes, inline, each
):
    scheduler = engine(lanes=lanes, inline=inline)
    scheduler.load(ref, FailingSession(ref, lambda: ZeroDivisionError("oops"), each=each))
    scheduler.load(URGENT, EchoSession(URGENT))
    scheduler.start()
    told = Outcomes()
    scheduler.submit(ref, echo_call("a", ref), told)
    scheduler.submit(URGENT, echo_call("b", URGENT), told)
    failed, fine = sorted(told.wait(2), key=lambda o: isinstance(o, InferenceResult))
    assert isinstance(failed, LaunchDefect)
    assert "ZeroDivisionError" in failed.message
    assert isinstance(failed.__cause__, ZeroDivisionError)
    assert isinstance(fine, InferenceResult)
    assert scheduler.failed is None


def test_a_typed_error_reaches_the_caller_as_it_is(engine, ref):
    """X-30, X-34."""
    scheduler = engine()
    scheduler.load(ref, FailingSession(ref, Broken))
    scheduler.start()
    told = Outcomes()
    scheduler.submit(ref, echo_call("a", ref), told)
    (error,) = told.wait()
    assert isinstance(error, Broken)
    assert (error.error_class, error.recoverability) == (ErrorClass.EXECUTION, Recoverability.PERMANENT)


@pytest.mark.parametrize("lanes", [1, 2])
def test_a_fatal_failure_ends_the_engine_with_one_outcome_for_everyone(engine, ref, lanes):
    """X-35."""
    told_failure = []
    scheduler = engine(lanes=lanes, on_failed=told_failure.append)
    waiting = SlowSession(URGENT, max_rows=64, max_delay_ns=60 * 10**9)
    scheduler.load(URGENT, waiting)
    scheduler.load(ref, FailingSession(ref, DeviceGone))
    scheduler.start()
    told = Outcomes()
    for number in range(5):
        scheduler.submit(URGENT, echo_call(f"w{number}", URGENT), told)
    scheduler.submit(ref, echo_call("fatal", ref), told)
    outcomes = told.wait(6)
    assert sorted(type(o).__name__ for o in outcomes) == ["DeviceGone"] + ["EngineFailed"] * 5
    wait_until(lambda: told_failure)
    assert isinstance(scheduler.failed, EngineFailed)
    assert scheduler.failed.recoverability is Recoverability.FATAL
    assert "device is gone" in scheduler.status().failed
    scheduler.stop(drain=False, timeout_s=HANG_S)
    assert len(told.all) == 6


class WrongOutputs(EchoSession):
    def __init__(self, ref, outputs):
        super().__init__(ref)
        self.outputs = outputs

    def open_instance(self):
        inner, outputs = super().open_instance(), self.outputs

        class Instance:
            segments = 1

            def run(self, batch, between):
                return [outputs] * len(batch)

            def close(self):
                inner.close()

        return Instance()


@pytest.mark.parametrize(
    "outputs",
    [
        None,
        {},
        {"y": [[1.0] * 4]},
        {"y": np.ones((1, 4), np.float64)},
        {"y": np.ones((1, 5), np.float32)},
        {"y": np.ones(4, np.float32)},
        {"y": np.ones((65, 4), np.float32)},
        {"y": np.ones((1, 4), np.float32), "z": np.ones(1, np.float32)},
    ],
)
def test_what_cannot_be_decoded_is_a_decoding_error(engine, ref, outputs):
    """L3-15, X-31."""
    scheduler = engine()
    scheduler.load(ref, WrongOutputs(ref, outputs))
    scheduler.start()
    told = Outcomes()
    scheduler.submit(ref, echo_call("a", ref), told)
    (error,) = told.wait()
    assert isinstance(error, OutputUndecodable)
    assert isinstance(error, DecodingError)


def test_a_launch_with_another_number_of_results_is_our_defect(engine, ref):
    class Short(EchoSession):
        def open_instance(self):
            instance = super().open_instance()
            instance.run = lambda batch, between: []
            return instance

    scheduler = engine()
    scheduler.load(ref, Short(ref))
    scheduler.start()
    told = Outcomes()
    scheduler.submit(ref, echo_call("a", ref), told)
    assert isinstance(told.wait()[0], LaunchDefect)


@pytest.mark.parametrize("lanes", [1, 2])
def test_one_request_shows_every_step_of_its_way_in_order(engine, ref, lanes):
    """L4-13. Arrival and selection are the queue's records; the others are trace points."""
    seen = []

    class Sink:
        def emit(self, point):
            seen.append(point)

    scheduler = engine(lanes=lanes, sink=Sink(), record=seen.append)
    scheduler.load(ref, EchoSession(ref))
    scheduler.start()
    told = Outcomes()

    def called_back(completion):
        seen.append("callback")
        told(completion)

    scheduler.submit(ref, echo_call("r", ref), called_back)
    told.wait()
    scheduler.stop(drain=True, timeout_s=HANG_S)
    names = [item if isinstance(item, str) else getattr(item, "event", type(item).__name__) for item in seen]
    assert names == [
        "request_submitted",  # 1 submit
        "Arrival",  # 2 enqueue
        "Selection",  # 3 dequeue
        "policy_selection",  # 4 select, with the reason
        "stream_allocation",  # 5 stream
        "allocation",  # 6 bind
        "kernel_launch",  # 7 run
        "LaunchStart",
        "Finish",
        "event_record",  # 8 events
        "event_wait",
        "completion",  # 9 callback
        "callback",
        "deallocation",  # 10 release
    ]
    points = [item for item in seen if hasattr(item, "event")]
    verify_trace(points)
    assert next(p for p in points if isinstance(p, PolicySelection)).policy == "fifo"
    assert next(p for p in points if isinstance(p, KernelLaunch)).operator == "echo@1"


@pytest.mark.parametrize("lanes", [1, 3])
def test_every_decision_is_made_on_one_thread_that_is_not_the_callers(engine, ref, lanes):
    """L4-10."""
    import threading

    threads = set()
    scheduler = engine(lanes=lanes, record=lambda record: threads.add(threading.get_ident()))
    scheduler.load(ref, EchoSession(ref))
    scheduler.start()
    told = Outcomes()
    for number in range(50):
        scheduler.submit(ref, echo_call(f"r{number}", ref), told)
    told.wait(50)
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_the_loop_refuses_to_work_on_another_thread_in_debug_mode(engine, ref):
    """L4-19, L4-20."""
    scheduler = engine()
    scheduler.start()
    loop = scheduler._loop
    for call in (lambda: loop.cancel("r"), lambda: loop.end(), lambda: loop.retire(None)):
        with pytest.raises(ThreadRoleBroken):
            call()


def test_equal_requests_get_equal_streams_and_equal_records(engine, ref):
    """L4-16: the same sequence twice, from a queue that is full before the first launch."""

    def run_once():
        records = []
        scheduler = engine(lanes=3, policy=PriorityPolicy(), record=records.append)
        session = SlowSession(ref, max_rows=4)
        scheduler.load(ref, session)
        scheduler.start()
        told = Outcomes()
        for number in range(30):
            scheduler.submit(ref, echo_call(f"r{number}", ref, priority=number % 10), told)
            told.wait(number + 1)
        return [(r.requests, r.stream, r.key) for r in records if isinstance(r, Selection)]

    first, second = run_once(), run_once()
    assert first == second
    assert len(first) == 30


def test_every_launch_is_recorded_from_selection_to_outcome(engine, ref):
    """L4-17."""
    records = []
    scheduler = engine(record=records.append)
    scheduler.load(ref, EchoSession(ref))
    scheduler.load(URGENT, FailingSession(URGENT, Broken))
    scheduler.start()
    told = Outcomes()
    scheduler.submit(ref, echo_call("a", ref), told)
    scheduler.submit(URGENT, echo_call("b", URGENT), told)
    told.wait(2)
    scheduler.stop(drain=True, timeout_s=HANG_S)
    assert [r.launch for r in records if isinstance(r, LaunchStart)] == [0, 1]
    assert [r.outcomes for r in records if isinstance(r, Finish)] == [(("a", "ok"),), (("b", "failed"),)]


def test_tracing_that_is_off_costs_nothing(engine, ref):
    sink = MemorySink()
    scheduler = engine()
    assert scheduler._trace._emit is None
    assert sink.points == []
