"""Devices: documents, strategies, states and allocations (L4-33, L4-45, L4-48..L4-51, L4-60)."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest

from plumbline.contracts.clock import FakeClock
from plumbline.contracts.identity import LOCAL_PRINCIPAL
from plumbline.errors import PlumblineError
from plumbline.hardware.discovery import Capabilities, find_devices
from plumbline.serving.devices.discovery import HardwareDevices
from plumbline.serving.devices.info import DeviceFacts
from plumbline.serving.devices.inventory import DeviceManager, DeviceUnknown
from plumbline.serving.devices.lifecycle import (
    TRANSITIONS,
    DeviceEvent,
    DeviceState,
    DeviceTransitionRefused,
    next_state,
)
from plumbline.serving.devices.strategies import (
    Candidate,
    DevicePreferenceRefused,
    NoDeviceAvailable,
    Strategy,
    decide_device,
)
from plumbline.serving.events.bus import EventBus
from plumbline.testing.native_parts import SimulatedDevices

GPU = DeviceFacts(id="sim0", type="simulated", present=True, fingerprint="1")


def manager(*plugged: DeviceFacts) -> tuple[DeviceManager, SimulatedDevices, EventBus]:
    bus, source = EventBus(FakeClock(), begin=0), SimulatedDevices(plugged=list(plugged))
    devices = DeviceManager(source, bus, FakeClock())
    devices.refresh()
    return devices, source, bus


def kinds(bus: EventBus) -> list[str]:
    async def read() -> list[str]:
        stream = bus.subscribe(LOCAL_PRINCIPAL, after=0)
        return [(await anext(stream)).kind for _ in range(bus.newest)]

    return asyncio.run(read())


def offered(*_: Any) -> Capabilities:
    return Capabilities(operators=("Add",), dtypes=("float32",))


def test_the_numbers_are_those_of_plumb_devices() -> None:
    """L4-33, L4-51: live data."""
    devices = DeviceManager(HardwareDevices(offered), EventBus(FakeClock()), FakeClock())
    devices.refresh()
    report = find_devices(offered).to_dict()
    documents = {str(d["id"]): d for d in devices.devices()}
    assert [d["type"] for d in documents.values()] == [d["kind"] for d in report["devices"]]
    cpu = documents["cpu"]
    assert cpu["memory"]["total_bytes"] == report["host"]["memory"]["total_bytes"]
    assert cpu["name"] == (
        None if report["host"]["processor"]["model"] == "unknown" else report["host"]["processor"]["model"]
    )
    assert cpu["capabilities"] == {"operators": ["Add"], "dtypes": ["float32"]}
    assert 0 < cpu["memory"]["available_bytes"] <= cpu["memory"]["total_bytes"]
    for listing in report["devices"][1:]:
        absent = documents[listing["label"] or listing["kind"]]
        assert (absent["status"], absent["reason"]) == ("absent", listing["reason"])
        assert absent["memory"] == {"total_bytes": None, "available_bytes": None}, "never made up (L4-49)"
        assert absent["capabilities"] is None


def test_a_device_is_plugged_drained_unplugged_and_retired() -> None:
    """L4-48: states and events of a simulated device."""
    devices, source, bus = manager()
    source.plugged = [GPU]
    devices.refresh()
    devices.refresh()
    assert devices.device("sim0")["status"] == "available"
    asyncio.run(devices.drain("sim0"))
    assert devices.device("sim0")["status"] == "drained"
    devices.resume("sim0")
    source.plugged = []
    devices.refresh()
    assert devices.device("sim0")["status"] == "lost"
    assert devices.device("sim0")["capabilities"] is None
    devices.retire("sim0")
    source.plugged = [GPU]
    devices.refresh()
    assert devices.device("sim0")["status"] == "available"
    words = "plugged draining drained resumed unplugged retired plugged"
    assert kinds(bus) == [f"device.{word}" for word in words.split()]


def test_capabilities_are_asked_once_and_again_when_the_device_changed() -> None:
    """L4-60."""
    devices, source, bus = manager(GPU)
    for _ in range(3):
        devices.refresh()
        devices.devices()
    assert source.asked == ["sim0"]
    source.plugged = [dataclasses.replace(GPU, fingerprint="2")]
    devices.refresh()
    assert source.asked == ["sim0", "sim0"]
    assert kinds(bus)[-1] == "device.changed"


def test_every_transition_that_is_not_in_the_table_is_refused() -> None:
    for state in DeviceState:
        for event in DeviceEvent:
            if (state, event) in TRANSITIONS:
                assert next_state("d", state, event) is TRANSITIONS[state, event]
            else:
                with pytest.raises(DeviceTransitionRefused):
                    next_state("d", state, event)


def test_draining_waits_for_the_work_that_the_device_has() -> None:
    """L4-33: no new work meanwhile, and an answer when the last allocation ends."""

    async def test() -> None:
        devices, _, _ = manager(GPU)
        allocation = devices.allocator.allocate("t1")
        draining = asyncio.create_task(devices.drain("sim0"))
        await asyncio.sleep(0.01)
        assert devices.device("sim0")["status"] == "draining"
        with pytest.raises(NoDeviceAvailable):
            devices.allocator.allocate("t2")
        assert not draining.done()
        released = devices.allocator.release(allocation)
        async with asyncio.timeout(60):
            assert (await draining)["status"] == "drained"
        assert released.released_wall_ns is not None
        assert devices.allocator.release(allocation).device == "sim0", "a second time changes nothing"
        assert devices.allocator.held() == ()

    asyncio.run(test())


def test_a_device_that_is_lost_while_it_drains_ends_the_wait() -> None:
    async def test() -> None:
        devices, source, _ = manager(GPU)
        devices.allocator.allocate("t1")
        draining = asyncio.create_task(devices.drain("sim0"))
        await asyncio.sleep(0.01)
        source.plugged = []
        devices.refresh()
        async with asyncio.timeout(60):
            assert (await draining)["status"] == "lost"

    asyncio.run(test())


def test_an_unknown_device_is_not_found() -> None:
    devices, _, _ = manager(GPU)
    with pytest.raises(DeviceUnknown):
        devices.device("x")
    with pytest.raises(DeviceUnknown):
        asyncio.run(devices.drain("x"))


A = Candidate(id="a", status="available", load=3)
B = Candidate(id="b", status="available", load=1)
C = Candidate(id="c", status="draining", load=0)
D = Candidate(id="d", status="absent", load=0, reason="no driver")


@pytest.mark.parametrize(
    ("candidates", "strategy", "preference", "chosen"),
    [
        ([A, B, C], Strategy.FIRST_FIT, None, "a"),
        ([C, D, B, A], Strategy.FIRST_FIT, None, "b"),
        ([A, B, C], Strategy.LEAST_LOADED, None, "b"),
        ([A, dataclasses.replace(B, load=3)], Strategy.LEAST_LOADED, None, "a"),
        ([A, B, C], Strategy.LEAST_LOADED, "a", "a"),
        ([A, B, C], Strategy.FIRST_FIT, "b", "b"),
        ([A, B, C], Strategy.FIRST_FIT, "c", DevicePreferenceRefused),
        ([A, B, D], Strategy.LEAST_LOADED, "d", DevicePreferenceRefused),
        ([A, B], Strategy.LEAST_LOADED, "z", DevicePreferenceRefused),
        ([C, D], Strategy.LEAST_LOADED, None, NoDeviceAvailable),
        ([], Strategy.FIRST_FIT, None, NoDeviceAvailable),
    ],
)
def test_the_strategies_choose_and_a_preference_is_never_replaced(
    candidates: list[Candidate],
    strategy: Strategy,
    preference: str | None,
    chosen: str | type[PlumblineError],
) -> None:
    """L4-50."""
    if isinstance(chosen, str):
        device, by = decide_device(candidates, strategy, preference)
        assert device.id == chosen
        assert by is (strategy if preference is None else Strategy.PINNED)
    else:
        with pytest.raises(chosen):
            decide_device(candidates, strategy, preference)
