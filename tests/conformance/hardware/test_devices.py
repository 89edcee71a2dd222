"""Every device of this repository passes the shipped suite (L0-02, L0-16, L0-21)."""

from plumbline.hardware.cpu import CpuDevice
from plumbline.hardware.simulated import SimulatedDevice
from plumbline.testing.devices import DeviceConformance


class TestCpuDevice(DeviceConformance):
    def make_device(self) -> CpuDevice:
        return CpuDevice(capacity_bytes=1 << 24)


class TestSimulatedDevice(DeviceConformance):
    def make_device(self) -> SimulatedDevice:
        return SimulatedDevice()


class TestSimulatedUnifiedDevice(DeviceConformance):
    def make_device(self) -> SimulatedDevice:
        return SimulatedDevice(unified_memory=True)
