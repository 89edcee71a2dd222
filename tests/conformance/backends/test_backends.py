"""The processor and the simulated device pass the published suite of backends (L1-13, X-69)."""

from __future__ import annotations

from plumbline.compiler.partitioning import NativeBackend
from plumbline.execution.backend import ComputeBackend
from plumbline.execution.backend_simulated import SimulatedBackend
from plumbline.hardware.cpu import CpuDevice
from plumbline.hardware.simulated import SimulatedDevice
from plumbline.testing.backends import BackendConformance
from plumbline.testing.models import widest_target


class TestNativeBackend(BackendConformance):
    def make_backend(self) -> ComputeBackend:
        return NativeBackend(CpuDevice(), widest_target(), memory_bytes=1 << 20)


class TestNativeBackendOnTwoThreads(BackendConformance):
    def make_backend(self) -> ComputeBackend:
        return NativeBackend(CpuDevice(), widest_target(), threads=2)


class TestSimulatedBackend(BackendConformance):
    def make_backend(self) -> ComputeBackend:
        return SimulatedBackend(SimulatedDevice())
