import gc

import numpy as np
import pytest

from plumbline.hardware import allocation, residency, working_region
from plumbline.hardware.allocation import Allocation, AllocationChange, AllocationEvent, AllocationState
from plumbline.hardware.lifecycle import IllegalTransitionError
from plumbline.hardware.residency import (
    Residency,
    ResidencyChange,
    ResidencyEvent,
    ResidencyLedger,
    ResidencyState,
    ResidencyUnexplainedError,
)
from plumbline.hardware.simulated import SimulatedDevice
from plumbline.hardware.working_region import RegionLentError, StaleLeaseError, WorkingRegion


@pytest.mark.parametrize("state", list(AllocationState))
@pytest.mark.parametrize("event", list(AllocationEvent))
def test_only_the_transitions_of_the_allocation_table_are_possible(state, event):
    """L0-12."""
    value = Allocation(number=1, label="b", tenant="t", size_bytes=256, state=state)
    expected = allocation.ALLOCATION_TRANSITIONS.get((state, event))
    if expected is None:
        with pytest.raises(IllegalTransitionError):
            allocation.apply(value, event)
    else:
        after, change = allocation.apply(value, event)
        assert (after.state, change.before, change.event) == (expected, state, event)


def test_every_allocation_emits_one_event_for_each_transition():
    """L0-12: on success, on refusal, and when an array outlives its buffer."""
    changes: list[AllocationChange] = []
    device = SimulatedDevice(capacity_bytes=1024, unified_memory=True, on_allocation=changes.append)
    with device:
        buffer = device.memory.allocate(100, label="b")
        array = buffer.array("uint8", (4,))
        buffer.close()
        assert [c.event.value for c in changes] == ["grant", "release"]
        del array
        gc.collect()
        assert [c.event.value for c in changes] == ["grant", "release", "reclaim"]
        with pytest.raises(Exception, match="refused"):
            device.memory.allocate(2048, label="c")
        assert changes[-1].event is AllocationEvent.REFUSE


@pytest.mark.parametrize("state", list(ResidencyState))
@pytest.mark.parametrize("event", list(ResidencyEvent))
def test_only_the_transitions_of_the_residency_table_are_possible(state, event):
    """L0-13."""
    value = Residency(model="m", device="cpu", size_bytes=10, state=state)
    expected = residency.RESIDENCY_TRANSITIONS.get((state, event))
    if expected is None:
        with pytest.raises(IllegalTransitionError):
            residency.apply(value, event, actor="operator", reason="asked")
    else:
        assert residency.apply(value, event, actor="operator", reason="asked")[0].state is expected


def test_a_residency_change_says_who_and_why_and_is_emitted_once():
    """L0-13."""
    changes: list[ResidencyChange] = []
    ledger = ResidencyLedger(device="cpu", on_change=changes.append)
    ledger.change("m", ResidencyEvent.LOAD, actor="gateway", reason="first request", size_bytes=100)
    ledger.change("m", ResidencyEvent.LOADED, actor="worker", reason="weights are mapped")
    assert ledger.resident_bytes() == 100
    ledger.change("m", ResidencyEvent.EVICT, actor="operator", reason="room for another")
    ledger.change("m", ResidencyEvent.EVICTED, actor="worker", reason="done")
    assert ledger.resident_bytes() == 0
    assert ledger.get_residency("m").state is ResidencyState.ABSENT
    assert [(c.event.value, c.actor) for c in changes] == [
        ("load", "gateway"),
        ("loaded", "worker"),
        ("evict", "operator"),
        ("evicted", "worker"),
    ]
    assert all(c.reason for c in changes)


@pytest.mark.parametrize(("actor", "reason"), [("", "why"), ("who", " ")])
def test_an_unexplained_residency_change_is_refused_and_changes_nothing(actor, reason):
    """L0-13."""
    changes: list[ResidencyChange] = []
    ledger = ResidencyLedger(device="cpu", on_change=changes.append)
    with pytest.raises(ResidencyUnexplainedError):
        ledger.change("m", ResidencyEvent.LOAD, actor=actor, reason=reason)
    assert (changes, ledger.get_residency("m").state) == ([], ResidencyState.ABSENT)


def test_a_region_given_back_is_poisoned_and_its_views_are_dead():
    """L0-14."""
    memory = bytearray(64)
    region = WorkingRegion(memoryview(memory), label="scratch")
    lease = region.take()
    view = lease.view()
    view[:3] = b"abc"
    lease.give_back()
    assert memory == bytes([working_region.POISON]) * 64
    assert np.isnan(np.frombuffer(memory, dtype=np.float32)).all()
    with pytest.raises(ValueError, match="released"):
        view[0]
    with pytest.raises(StaleLeaseError):
        lease.view()
    with pytest.raises(StaleLeaseError):
        lease.give_back()
    second = region.take()
    assert (second.generation, region.generation) == (2, 2)
    with pytest.raises(IllegalTransitionError):
        region.take()
    with pytest.raises(IllegalTransitionError):
        region.unmap()
    second.give_back()
    region.unmap()
    with pytest.raises(IllegalTransitionError):
        region.take()


def test_a_region_with_a_live_array_is_not_given_back():
    """L0-14: reuse waits until nobody can read the old data."""
    region = WorkingRegion(memoryview(bytearray(64)), label="scratch")
    lease = region.take()
    array = lease.array("float32", 4)[1:]
    with pytest.raises(RegionLentError):
        lease.give_back()
    del array
    lease.give_back()
