import gc
import pickle
import warnings

import pytest

from plumbline.errors import PlumblineError, Recoverability
from plumbline.hardware.cpu import CpuDevice
from plumbline.hardware.faults import FaultClass, FaultPlan
from plumbline.hardware.handles import HandleClosedError
from plumbline.hardware.simulated import SimulatedDevice
from plumbline.hardware.work import CallableLaunch

NOTHING = CallableLaunch(function=lambda: None)


def test_a_planted_leak_is_reported_and_stays_counted():
    """L0-07: the finaliser only reports."""
    device = SimulatedDevice()
    stream = device.open_stream("forgotten")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del stream
        gc.collect()
    assert [record.label for record in device.registry.leaked] == ["forgotten"]
    assert any("forgotten" in str(warning.message) for warning in caught)
    assert device.registry.live == 2
    device.close()


def test_ten_thousand_cycles_of_create_and_fail_leave_nothing():
    """L0-07."""
    with SimulatedDevice() as device:
        for _ in range(10_000):
            try:
                with device.open_event("e"), device.memory.allocate(64, label="b"):
                    raise KeyError
            except KeyError:
                pass
        assert device.registry.live_by_kind() == {"device": 1}
        assert device.memory.used_bytes == 0


def use_everything(device) -> None:
    with (
        device.open_stream("s") as stream,
        device.open_event("e") as event,
        device.place(memoryview(b"abc"), label="b") as buffer,
    ):
        stream.launch(NOTHING)
        stream.record(event)
        stream.wait(event)
        stream.synchronize(10)
        device.copy_out(buffer)


OPERATIONS = (
    "allocate",
    "release",
    "copy_in",
    "copy_out",
    "create_stream",
    "destroy_stream",
    "create_event",
    "destroy_event",
    "record_event",
    "wait_event",
    "launch",
    "synchronize",
)


@pytest.mark.parametrize("kind", [CpuDevice, SimulatedDevice])
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("fault", list(FaultClass))
def test_a_fault_in_any_driver_call_is_typed_and_leaves_no_handle(kind, operation, fault):
    """L0-05: every call is checked; the error says file, line and function. L0-07: live count 0."""
    device = kind(faults=FaultPlan(faults={(operation, 1): fault}))
    with pytest.raises(PlumblineError) as caught, device:
        use_everything(device)
    assert device.registry.live == 0
    assert device.memory.used_bytes == 0
    context = caught.value.context
    assert context.module.startswith("plumbline.hardware")
    assert context.line > 0
    assert context.function
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (copy.code, copy.message) == (caught.value.code, caught.value.message)
    if fault is FaultClass.DEVICE_LOST:
        assert caught.value.recoverability is Recoverability.FATAL


@pytest.mark.parametrize("kind", [CpuDevice, SimulatedDevice])
def test_without_a_fault_the_same_calls_succeed(kind):
    """The test above can fail."""
    with kind(faults=FaultPlan()) as device:
        use_everything(device)
        assert set(OPERATIONS) <= device.driver_calls.keys()
    assert device.registry.live == 0


def test_a_lost_device_refuses_everything_but_closing():
    """X-35: fatal."""
    device = SimulatedDevice(faults=FaultPlan(faults={("launch", 1): FaultClass.DEVICE_LOST}))
    stream = device.open_stream("s")
    with pytest.raises(PlumblineError) as caught:
        stream.run(NOTHING)
    assert caught.value.recoverability is Recoverability.FATAL
    for use in (lambda: device.open_event("e"), lambda: device.memory.allocate(1, label="b")):
        with pytest.raises(PlumblineError, match="lost"):
            use()
    device.close()
    assert device.registry.live == 0


def test_closing_twice_is_harmless_and_entering_a_closed_device_raises():
    device = SimulatedDevice()
    device.close()
    device.close()
    with pytest.raises(HandleClosedError), device:
        pass


def test_nothing_public_is_a_native_handle():
    """L0-06: no public attribute of a handle holds a ctypes object or a mapping."""
    with (
        CpuDevice() as device,
        device.open_stream("s") as stream,
        device.open_event("e") as event,
        device.memory.allocate(64, label="b") as buffer,
    ):
        for handle in (device, stream, event, buffer):
            for name in (n for n in dir(handle) if not n.startswith("_")):
                module = type(getattr(handle, name)).__module__
                assert module.partition(".")[0] not in {"ctypes", "_ctypes", "mmap"}, name
