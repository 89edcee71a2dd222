"""Start, stop, restart, submit: what the engine promises whatever runs on it (L4-02..L4-04, L4-10, L4-15)."""

import threading
import time
from contextlib import contextmanager
from typing import Any, ClassVar

import pytest

from plumbline.contracts.clock import FakeClock
from plumbline.contracts.inference import InferenceResult, VersionRef
from plumbline.engine.outcomes import (
    DeadlineMissed,
    DuplicateRequest,
    EngineStopped,
    QueueFull,
    RequestCancelled,
    VersionNotLoaded,
)
from plumbline.engine.result import OutputUnknown
from plumbline.engine.scheduler import EngineRunning, WrongThread
from plumbline.errors import Recoverability
from plumbline.scheduling.policies.priority import PriorityPolicy
from plumbline.scheduling.refusals import ExecutionRequestRefused
from plumbline.testing.sessions import HANG_S, EchoRefused, EchoSession, Outcomes, SlowSession, echo_call

LANES = pytest.mark.parametrize(("lanes", "inline"), [(1, True), (1, False), (2, True)])


def wait_until(happened):
    limit_s = time.monotonic() + HANG_S
    while not happened():
        assert time.monotonic() < limit_s
        time.sleep(0.001)


@contextmanager
def stopping(scheduler, *, drain):
    """The body runs once the loop has been told to stop; at the end the stop has returned."""
    intake, told_to_stop = scheduler._loop.intake, threading.Event()
    post = intake.post

    def posted(handle, argument):
        post(handle, argument)
        told_to_stop.set()

    intake.post = posted
    stop = threading.Thread(target=scheduler.stop, kwargs={"drain": drain, "timeout_s": HANG_S})
    stop.start()
    assert told_to_stop.wait(HANG_S)
    yield
    stop.join(2 * HANG_S)
    assert not stop.is_alive()


def threads_of(name):
    return [t.name for t in threading.enumerate() if t.name.startswith(name)]


@LANES
def test_a_request_gets_its_result_on_the_orchestration_thread(engine, ref, lanes, inline):
    scheduler = engine(lanes=lanes, inline=inline, name="loop-a")
    scheduler.load(ref, EchoSession(ref))
    scheduler.start()
    told = Outcomes()
    assert scheduler.submit(ref, echo_call("r", ref, rows=3, value=2.5), told) == "r"
    (result,) = told.wait()
    assert isinstance(result, InferenceResult)
    assert result.id == "r"
    assert result.served_by == ref
    assert result.outputs["y"].tolist() == [[2.5] * 4] * 3
    timing = result.timing
    assert 0 < timing.queued_ns <= timing.launched_ns <= timing.finished_ns
    assert (timing.launch, timing.batched, timing.stream) == (0, 1, 0)
    assert told.threads == {"loop-a loop"}


@LANES
def test_stop_with_drain_answers_everything_that_was_accepted(engine, ref, lanes, inline):
    """L4-04."""
    scheduler = engine(lanes=lanes, inline=inline, name="loop-b")
    session = SlowSession(ref, gated=True, max_rows=0)
    scheduler.load(ref, session)
    scheduler.start()
    told = Outcomes()
    for number in range(20):
        scheduler.submit(ref, echo_call(f"r{number}", ref), told)
    assert session.entered.wait(HANG_S)
    with stopping(scheduler, drain=True):
        assert told.all == []
        session.gate.set()
    assert len(told.all) == 20
    assert all(isinstance(outcome, InferenceResult) for outcome in told.all)
    assert threads_of("loop-b") == []


@LANES
def test_stop_without_drain_ends_what_waits_and_what_runs_at_its_boundary(engine, ref, lanes, inline):
    """L4-04."""
    scheduler = engine(lanes=lanes, inline=inline, name="loop-c")
    session = SlowSession(ref, gated=True, segments=3, max_rows=0)
    scheduler.load(ref, session)
    scheduler.start()
    told = Outcomes()
    for number in range(5):
        scheduler.submit(ref, echo_call(f"r{number}", ref), told)
    assert session.entered.wait(HANG_S)
    with stopping(scheduler, drain=False):
        if not inline or lanes > 1:  # the loop is not what stands in the launch: it ends the others at once
            told.wait(4)
            steps = scheduler.steps
            wait_until(lambda: scheduler.steps > steps)
        session.gate.set()
    assert sorted(type(outcome).__name__ for outcome in told.all) == ["EngineStopped"] * 5
    assert session.order == [0]
    assert threads_of("loop-c") == []


@LANES
def test_an_engine_works_again_after_a_stop(engine, ref, lanes, inline):
    """L4-04."""
    scheduler = engine(lanes=lanes, inline=inline)
    scheduler.load(ref, EchoSession(ref))
    steps = 0
    for life in range(3):
        scheduler.start()
        told = Outcomes()
        scheduler.submit(ref, echo_call(f"r{life}", ref), told)
        assert isinstance(told.wait()[0], InferenceResult)
        scheduler.stop(drain=True, timeout_s=HANG_S)
        assert scheduler.steps > steps
        steps = scheduler.steps


def test_starting_twice_is_refused(engine):
    scheduler = engine()
    scheduler.start()
    with pytest.raises(EngineRunning):
        scheduler.start()


def test_stopping_twice_is_harmless(engine):
    scheduler = engine()
    scheduler.start()
    scheduler.stop(drain=True, timeout_s=HANG_S)
    scheduler.stop(drain=False, timeout_s=HANG_S)


def test_a_stopped_engine_refuses_at_once_and_says_that_a_retry_may_work(engine, ref):
    """X-33."""
    scheduler = engine()
    scheduler.load(ref, EchoSession(ref))
    with pytest.raises(EngineStopped) as caught:
        scheduler.submit(ref, echo_call("r", ref), Outcomes())
    assert caught.value.recoverability is Recoverability.TRANSIENT
    assert caught.value.retry_after_s > 0
    scheduler.start()
    told = Outcomes()
    scheduler.submit(ref, echo_call("r", ref), told)
    assert isinstance(told.wait()[0], InferenceResult)


def test_one_more_than_may_wait_is_refused_at_once(engine, ref):
    """L4-12, L4-23, X-33: the caller decides; after room is made the same call works."""
    scheduler = engine(capacity=3)
    session = SlowSession(ref, gated=True, max_rows=0)
    scheduler.load(ref, session)
    scheduler.start()
    told = Outcomes()
    scheduler.submit(ref, echo_call("running", ref), told)
    assert session.entered.wait(HANG_S)
    for number in range(3):
        scheduler.submit(ref, echo_call(f"r{number}", ref), told)
    with pytest.raises(QueueFull) as caught:
        scheduler.submit(ref, echo_call("late", ref), told)
    assert caught.value.recoverability is Recoverability.TRANSIENT
    assert scheduler.status().queued == 3
    session.gate.set()
    told.wait(4)
    scheduler.submit(ref, echo_call("late", ref), told)
    assert [outcome.id for outcome in told.wait(5)] == ["running", "r0", "r1", "r2", "late"]


def test_submission_returns_while_the_device_stands_still(engine, ref):
    """L4-15: with the only stream stalled inside a launch, 200 submissions return; none waits for an end."""
    scheduler = engine()
    session = SlowSession(ref, gated=True, max_rows=0)
    scheduler.load(ref, session)
    scheduler.start()
    told = Outcomes()
    scheduler.submit(ref, echo_call("stalled", ref), told)
    assert session.entered.wait(HANG_S)
    for number in range(200):
        scheduler.submit(ref, echo_call(f"r{number}", ref), told)
    assert told.all == []
    assert not session.gate.is_set()
    assert session.order == [0]
    session.gate.set()
    assert len(told.wait(201)) == 201


def test_wrong_calls_are_refused_on_the_callers_thread(engine, ref):
    """L4-03."""
    scheduler = engine()
    scheduler.load(ref, EchoSession(ref))
    scheduler.start()
    told = Outcomes()
    other = VersionRef(model="echo", version="2")
    with pytest.raises(VersionNotLoaded, match="echo@1"):
        scheduler.submit(other, echo_call("r", other), told)
    with pytest.raises(EchoRefused):
        scheduler.submit(ref, echo_call("r", ref, rows=65), told)
    with pytest.raises(ExecutionRequestRefused, match="deadline"):
        scheduler.submit(ref, echo_call("r", ref, deadline_ns=-5), told)
    with pytest.raises(ExecutionRequestRefused, match="deadline"):
        scheduler.submit(ref, echo_call("r", ref, deadline_ns=1.5), told)
    with pytest.raises(DeadlineMissed):
        scheduler.submit(ref, echo_call("r", ref, deadline_ns=1), told)
    with pytest.raises(OutputUnknown, match="y"):
        scheduler.submit(ref, echo_call("r", ref, wanted=("z",)), told)
    assert told.all == []
    assert scheduler.status().queued == 0


def test_an_id_is_refused_while_it_is_alive_and_free_afterwards(engine, ref):
    scheduler = engine()
    session = SlowSession(ref, gated=True)
    scheduler.load(ref, session)
    scheduler.start()
    told = Outcomes()
    scheduler.submit(ref, echo_call("r", ref), told)
    with pytest.raises(DuplicateRequest):
        scheduler.submit(ref, echo_call("r", ref), told)
    session.gate.set()
    told.wait()
    scheduler.submit(ref, echo_call("r", ref), told)
    assert len(told.wait(2)) == 2


def test_a_callback_that_raises_stops_nothing(engine, ref):
    """L4-14."""
    scheduler = engine()
    scheduler.load(ref, EchoSession(ref))
    scheduler.start()

    def broken(completion: Any) -> None:
        raise RuntimeError("in a callback")

    scheduler.submit(ref, echo_call("a", ref), broken)
    told = Outcomes()
    scheduler.submit(ref, echo_call("b", ref), told)
    assert isinstance(told.wait()[0], InferenceResult)
    assert scheduler.status().callback_failures == 1


def test_a_callback_may_submit_but_not_wait_for_the_engine(engine, ref):
    scheduler = engine()
    scheduler.load(ref, EchoSession(ref))
    scheduler.start()
    told, caught = Outcomes(), []

    def again(completion: Any) -> None:
        for wait in (lambda: scheduler.unload(ref), lambda: scheduler.stop(drain=True, timeout_s=1)):
            try:
                wait()
            except WrongThread as error:
                caught.append(error.function)
        scheduler.submit(ref, echo_call("second", ref), told)

    scheduler.submit(ref, echo_call("first", ref), again)
    assert told.wait()[0].id == "second"
    assert caught == ["unload", "stop"]


@LANES
def test_a_waiting_request_is_cancelled_without_running(engine, ref, lanes, inline):
    scheduler = engine(lanes=lanes, inline=inline)
    session = SlowSession(ref, gated=True, max_rows=0)
    scheduler.load(ref, session)
    scheduler.start()
    told = Outcomes()
    scheduler.submit(ref, echo_call("a", ref), told)
    assert session.entered.wait(HANG_S)
    scheduler.submit(ref, echo_call("b", ref), told)
    assert scheduler.cancel("b")
    session.gate.set()
    outcomes = told.wait(2)
    (cancelled,) = [o for o in outcomes if isinstance(o, RequestCancelled)]
    assert (cancelled.request, cancelled.launched) == ("b", False)
    assert session.launches == [1]
    assert not scheduler.cancel("b")


@LANES
def test_a_running_request_is_cancelled_at_the_next_boundary(engine, ref, lanes, inline):
    scheduler = engine(lanes=lanes, inline=inline)
    session = SlowSession(ref, gated=True, segments=4)
    scheduler.load(ref, session)
    scheduler.start()
    told = Outcomes()
    scheduler.submit(ref, echo_call("a", ref), told)
    assert session.entered.wait(HANG_S)
    assert scheduler.cancel("a")
    session.gate.set()
    (cancelled,) = told.wait()
    assert isinstance(cancelled, RequestCancelled)
    assert cancelled.launched
    assert session.order == [0]


def test_a_deadline_that_passes_in_the_queue_is_answered_and_never_runs(engine, ref):
    """L4-66."""
    clock = FakeClock(1_000_000)
    scheduler = engine(inline=False, clock=clock)
    session = SlowSession(ref, gated=True, max_rows=0)
    scheduler.load(ref, session)
    scheduler.start()
    told = Outcomes()
    scheduler.submit(ref, echo_call("running", ref), told)
    assert session.entered.wait(HANG_S)
    due_ns = clock.now_ns() + 30_000_000
    scheduler.submit(ref, echo_call("a", ref, deadline_ns=due_ns), told)
    scheduler.submit(ref, echo_call("b", ref, start_by_ns=due_ns), told)
    clock.advance(30_000_001)
    outcomes = told.wait(2)
    assert [(type(o), o.request, o.limit, o.limit_ns) for o in outcomes] == [
        (DeadlineMissed, "a", "deadline", due_ns),
        (DeadlineMissed, "b", "start_by", due_ns),
    ]
    assert all(o.expired_ns >= due_ns for o in outcomes)
    session.gate.set()
    told.wait(3)
    assert session.launches == [1]


def test_the_step_counter_moves_while_the_engine_is_idle(engine):
    cell = [0]
    scheduler = engine(progress=cell)
    scheduler.start()
    first = cell[0]
    wait_until(lambda: cell[0] >= first + 3)
    assert scheduler.steps >= cell[0]


class NewestFirst:
    """A policy that only this test knows."""

    name: ClassVar[str] = "newest-first"

    def enter(self, request, arrival):
        return (-arrival, arrival)

    def leave(self, request, key, *, selected):
        return None

    def reason(self, request, key):
        return f"it is the newest ({key[-1]})"

    def compare(self, winner, loser):
        return "it is older"

    def state(self):
        return {}

    def restore(self, state):
        return None


@pytest.mark.parametrize(
    ("policy", "order"),
    [(NewestFirst(), ["r3", "r2", "r1", "r0"]), (PriorityPolicy(), ["r3", "r2", "r1", "r0"])],
)
def test_the_injected_policy_alone_decides_the_order(engine, ref, policy, order):
    """L4-02, L4-05, L4-18: the same engine code, another order, the same outputs."""
    scheduler = engine(policy=policy)
    session = SlowSession(ref, gated=True, max_rows=0)
    scheduler.load(ref, session)
    scheduler.start()
    told = Outcomes()
    scheduler.submit(ref, echo_call("first", ref), told)
    assert session.entered.wait(HANG_S)
    for number in range(4):
        scheduler.submit(ref, echo_call(f"r{number}", ref, value=number, priority=number), told)
    session.gate.set()
    outcomes = told.wait(5)
    assert [o.id for o in outcomes] == ["first", *order]
    assert [float(o.outputs["y"][0, 0]) for o in outcomes[1:]] == [float(name[1:]) for name in order]
