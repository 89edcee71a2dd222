"""Loading and unloading: one memory budget, instances, versions side by side (L3-02, L3-07, L3-21, L4-23)."""

import itertools
import threading
import time

import pytest

from plumbline.contracts.inference import InferenceResult, VersionRef
from plumbline.contracts.models import VersionKind
from plumbline.engine.loading import LanesExhausted
from plumbline.engine.loop import OWN_LANES
from plumbline.engine.memory import MemoryBudgetRefused
from plumbline.engine.outcomes import VersionLoadedTwice, VersionNotLoaded
from plumbline.errors import Recoverability
from plumbline.scheduling.refusals import StreamUnknown
from plumbline.testing.sessions import HANG_S, EchoSession, Outcomes, SlowSession, echo_call

SECOND = VersionRef(model="echo", version="2")


def test_a_version_that_does_not_fit_is_refused_with_the_numbers_before_anything_is_opened(engine, ref):
    scheduler = engine(budget_bytes=1500)
    scheduler.load(ref, EchoSession(ref, memory_bytes=1000))
    second = EchoSession(SECOND, memory_bytes=501)
    with pytest.raises(MemoryBudgetRefused) as caught:
        scheduler.load(SECOND, second)
    error = caught.value
    assert (error.required_bytes, error.free_bytes, error.budget_bytes) == (501, 500, 1500)
    assert "echo@1 1000" in error.loaded
    assert error.recoverability is Recoverability.PERMANENT
    assert second.opened == 0
    scheduler.unload(ref)
    scheduler.load(SECOND, second)
    assert scheduler.status().memory_bytes == 501


def test_a_version_whose_instance_cannot_be_opened_leaves_nothing_behind(engine, ref):
    class Broken(EchoSession):
        def open_instance(self):
            if self.opened == 2:
                raise MemoryError("no arena")
            return super().open_instance()

    scheduler = engine(budget_bytes=1024)
    session = Broken(ref)
    with pytest.raises(MemoryError):
        scheduler.load(ref, session, instances=3)
    assert (session.opened, session.closed_instances, session.closed) == (2, 2, 0)
    assert scheduler.status().memory_bytes == 0
    scheduler.load(ref, EchoSession(ref))


@pytest.mark.parametrize("started", [False, True])
def test_unloading_closes_instances_and_session_and_gives_the_memory_back(engine, ref, started):
    scheduler = engine()
    session = EchoSession(ref)
    if started:
        scheduler.start()
    scheduler.load(ref, session, instances=3)
    scheduler.unload(ref)
    assert (session.opened, session.closed_instances, session.closed) == (3, 3, 1)
    assert scheduler.status().versions == {}
    with pytest.raises(VersionNotLoaded):
        scheduler.submit(ref, echo_call("r", ref), Outcomes())


@pytest.mark.parametrize("lanes", [1, 2])
def test_unloading_waits_for_what_was_accepted_and_refuses_what_comes(engine, ref, lanes):
    scheduler = engine(lanes=lanes)
    session = SlowSession(ref, gated=True, max_rows=0)
    scheduler.load(ref, session)
    scheduler.start()
    told = Outcomes()
    for number in range(4):
        scheduler.submit(ref, echo_call(f"r{number}", ref), told)
    assert session.entered.wait(HANG_S)
    unloading = threading.Thread(target=scheduler.unload, args=(ref,))
    unloading.start()
    for number in itertools.count():  # until the other thread has come to shut the door
        try:
            scheduler.submit(ref, echo_call(f"late{number}", ref), told)
        except VersionNotLoaded:
            break
        scheduler.cancel(f"late{number}")
        time.sleep(0.01)
    assert session.closed == 0
    session.gate.set()
    unloading.join(HANG_S)
    assert not unloading.is_alive()
    assert session.closed == session.closed_instances == 1
    answered = [o.id for o in told.all if isinstance(o, InferenceResult) and not o.id.startswith("late")]
    assert answered == ["r0", "r1", "r2", "r3"]


def test_two_versions_run_side_by_side_and_a_call_gets_the_one_it_names(engine, ref):
    """L3-21."""
    scheduler = engine()
    scheduler.start()
    for version in (ref, SECOND):
        scheduler.load(version, EchoSession(version))
    told = Outcomes()
    scheduler.submit(ref, echo_call("a", ref), told)
    scheduler.submit(SECOND, echo_call("b", SECOND), told)
    assert {o.id: o.served_by for o in told.wait(2)} == {"a": ref, "b": SECOND}
    scheduler.unload(SECOND)
    scheduler.submit(ref, echo_call("c", ref), told)
    assert isinstance(told.wait(3)[2], InferenceResult)


def test_loading_a_version_twice_or_on_a_stream_that_is_not_there_is_refused(engine, ref):
    scheduler = engine(lanes=2)
    scheduler.load(ref, EchoSession(ref), stream=1)
    with pytest.raises(VersionLoadedTwice):
        scheduler.load(ref, EchoSession(ref))
    with pytest.raises(StreamUnknown):
        scheduler.load(SECOND, EchoSession(SECOND), stream=2)
    with pytest.raises(VersionNotLoaded):
        scheduler.unload(SECOND)


def test_a_version_runs_on_the_stream_that_it_is_bound_to(engine, ref):
    """L4-16."""
    scheduler = engine(lanes=2)
    scheduler.load(ref, EchoSession(ref), stream=1)
    scheduler.start()
    told = Outcomes()
    for number in range(10):
        scheduler.submit(ref, echo_call(f"r{number}", ref), told)
    assert {o.timing.stream for o in told.wait(10)} == {1}


def test_never_more_launches_than_instances_go_on_at_once(engine, ref):
    """L4-09: an echo instance raises when it is entered twice; four lanes and two instances."""
    scheduler = engine(lanes=4)
    session = SlowSession(ref, segment_s=0.002, max_rows=0)
    scheduler.load(ref, session, instances=2)
    scheduler.start()
    told = Outcomes()
    for number in range(40):
        scheduler.submit(ref, echo_call(f"r{number}", ref), told)
    outcomes = told.wait(40)
    assert all(isinstance(o, InferenceResult) for o in outcomes)
    assert {o.timing.stream for o in outcomes} <= {0, 1, 2, 3}


def test_a_python_version_that_stands_still_does_not_hold_up_the_others(engine, ref):
    """L4-57."""
    scheduler = engine()
    slow = SlowSession(SECOND, gated=True, kind=VersionKind.PYTHON, max_rows=0)
    scheduler.load(SECOND, slow, instances=2)
    scheduler.load(ref, EchoSession(ref))
    scheduler.start()
    slow_told, told = Outcomes(), Outcomes()
    for number in range(3):
        scheduler.submit(SECOND, echo_call(f"slow{number}", SECOND), slow_told)
    assert slow.entered.wait(HANG_S)
    for number in range(5):
        scheduler.submit(ref, echo_call(f"r{number}", ref), told)
    assert len(told.wait(5)) == 5
    assert slow_told.all == []
    slow.gate.set()
    assert {o.timing.stream for o in slow_told.wait(3)} == {1}


def test_more_python_stages_than_lanes_of_their_own_are_refused(engine):
    scheduler = engine()
    for number in range(OWN_LANES):
        found = VersionRef(model=f"m{number}", version="1")
        scheduler.load(found, EchoSession(found, kind=VersionKind.PYTHON))
    with pytest.raises(LanesExhausted):
        scheduler.load(SECOND, EchoSession(SECOND, kind=VersionKind.PYTHON))
    scheduler.unload(VersionRef(model="m7", version="1"))
    scheduler.load(SECOND, EchoSession(SECOND, kind=VersionKind.PYTHON))
