"""What every device of this process shares: its registry, gate, memory, copy counter and stream limit."""

from __future__ import annotations

from collections.abc import Callable

from plumbline.contracts.program import MAX_THREADS
from plumbline.hardware.allocation import AllocationChange
from plumbline.hardware.device import CopyCounter, StreamLimitError, ThreadCountError
from plumbline.hardware.faults import DriverGate
from plumbline.hardware.handles import HandleRegistry, OwnedHandle
from plumbline.hardware.memory import DEFAULT_TENANT, DeviceBuffer, DeviceMemoryPool, MemoryDriver


class OwnedDevice(OwnedHandle):
    """A device that owns everything opened from it: closing it closes its streams, events and buffers."""

    kind = "device"

    def __init__(
        self,
        *,
        label: str,
        gate: DriverGate,
        driver: MemoryDriver,
        capacity_bytes: int,
        max_streams: int,
        unified_memory: bool,
        on_allocation: Callable[[AllocationChange], None],
    ) -> None:
        self.registry = HandleRegistry()
        super().__init__(registry=self.registry, label=label)
        self.copies = CopyCounter()
        self.unified_memory = unified_memory
        self.max_streams = max_streams
        self._gate = gate
        self.memory = DeviceMemoryPool(
            device=label,
            capacity_bytes=capacity_bytes,
            driver=driver,
            registry=self.registry,
            on_change=on_allocation,
        )

    @property
    def driver_calls(self) -> dict[str, int]:
        """Driver calls made so far, by operation."""
        return self._gate.calls

    def place(self, data: memoryview, *, label: str, tenant: str = DEFAULT_TENANT) -> DeviceBuffer:
        """A buffer with the bytes of `data`; counted as a copy unless memory is unified."""
        self.verify_open()
        buffer = self.memory.allocate(data.nbytes, label=label, tenant=tenant)
        try:
            self.copy_in(buffer, data)
        except BaseException:
            buffer.close()
            raise
        return buffer

    def copy_in(self, buffer: DeviceBuffer, data: memoryview, offset: int = 0) -> None:
        """Host bytes into a buffer, counted as a copy unless memory is unified."""
        self.verify_open()
        self._gate.enter("copy_in")
        buffer._write(offset, data)
        self._count_copy(data.nbytes)

    def copy_out(self, buffer: DeviceBuffer, offset: int = 0, size_bytes: int | None = None) -> bytes:
        """Bytes of a buffer to the host, counted as a copy unless memory is unified."""
        self.verify_open()
        self._gate.enter("copy_out")
        data = buffer._read(offset, size_bytes)
        self._count_copy(len(data))
        return data

    def _count_copy(self, size_bytes: int) -> None:
        if not self.unified_memory:
            self.copies.add(size_bytes)

    def _verify_new_stream(self, label: str, threads: int) -> None:
        self.verify_open()
        if not 1 <= threads <= MAX_THREADS:
            raise ThreadCountError(stream=label, threads=threads, limit=MAX_THREADS)
        if self.registry.live_by_kind().get("stream", 0) >= self.max_streams:
            raise StreamLimitError(device=self.label, limit=self.max_streams)
        self._gate.enter("create_stream")

    def _release(self) -> None:
        self.registry.close_all("stream", "event", "buffer")
