"""A device with virtual time and fault injection. It computes real results in the order of its clock."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from plumbline.hardware.allocation import AllocationChange
from plumbline.hardware.device import (
    DeviceKind,
    Event,
    EventNotRecordedError,
    ForeignEventError,
    StreamClosingError,
    StreamTimeoutError,
    UpstreamFailedError,
)
from plumbline.hardware.faults import DriverGate, FaultPlan
from plumbline.hardware.handles import OwnedHandle
from plumbline.hardware.lane import DirectLane
from plumbline.hardware.memory import DeviceBuffer
from plumbline.hardware.owned_device import OwnedDevice
from plumbline.hardware.simulated_memory import SimulatedMemoryDriver
from plumbline.hardware.virtual_time import (
    AwaitPoint,
    CostedWork,
    ReachPoint,
    SimulatedPoint,
    VirtualClock,
)
from plumbline.hardware.work import NativeLaunch, StreamWork


class SimulatedEvent(OwnedHandle):
    """A point in the order of a simulated stream, timed in virtual nanoseconds."""

    kind = "event"

    def __init__(self, device: SimulatedDevice, label: str) -> None:
        super().__init__(registry=device.registry, label=label)
        self._clock = device.clock
        self._gate = device._gate
        self._point: SimulatedPoint | None = None

    def query(self) -> bool:
        """Whether the point is reached at the present virtual time. Does not advance the clock."""
        self.verify_open()
        return self._point is not None and self._point.reached_ns is not None

    def wait(self, timeout_s: float | None = None) -> None:
        """Advance virtual time until the point is reached; see `Event.wait`."""
        self.verify_open()
        point = self._recorded()
        limit_ns = None if timeout_s is None else self._clock.now_ns + round(timeout_s * 1e9)
        if not self._clock.advance_until(lambda: point.is_done, limit_ns):
            raise StreamTimeoutError(kind="event", label=self.label, timeout_s=timeout_s or 0.0)
        if point.failure is not None:
            raise UpstreamFailedError(event=self.label, reason=point.failure.message) from point.failure

    def elapsed_ns(self, later: Event) -> int:
        """Virtual nanoseconds from this point to `later`; both must be reached."""
        self.verify_open()
        if not isinstance(later, SimulatedEvent):
            raise ForeignEventError(event=later.label, stream=self.label)
        return later._reached_ns() - self._reached_ns()

    def _recorded(self) -> SimulatedPoint:
        if self._point is None:
            raise EventNotRecordedError(event=self.label)
        return self._point

    def _reached_ns(self) -> int:
        reached_ns = self._recorded().reached_ns
        if reached_ns is None:
            raise EventNotRecordedError(event=self.label)
        return reached_ns

    def _release(self) -> None:
        self._gate.enter("destroy_event", releasing=True)


class SimulatedStream(OwnedHandle):
    """A lane of virtual time. `threads` is only recorded; work runs on the thread that advances time."""

    kind = "stream"

    def __init__(self, device: SimulatedDevice, label: str, threads: int) -> None:
        super().__init__(registry=device.registry, label=label)
        self.threads = threads
        self._clock = device.clock
        self._gate = device._gate
        self._lane = device.clock.open_lane(label)
        self._direct = DirectLane(label)

    def launch(self, work: StreamWork) -> None:
        """Queue work and return at once, before it has any effect; see `Stream.launch`."""
        self.verify_open()

        def take_effect() -> None:
            self._gate.enter("launch")
            self._direct.execute(work)

        self._clock.submit(self._lane, CostedWork(take_effect, work.cost_ns))

    def run(self, work: StreamWork) -> None:
        """Run work in order and return when it is done; see `Stream.run`."""
        self.launch(work)
        self._drain(None)

    def bind(self, work: NativeLaunch) -> Callable[[], None]:
        """Prepare a run of the same work many times; see `Stream.bind`."""
        return partial(self.run, work)

    def record(self, event: Event) -> None:
        """Let `event` mean the end of everything queued so far; see `Stream.record`."""
        own = self._own(event)
        self._gate.enter("record_event")
        own._point = SimulatedPoint(own.label)
        self._clock.submit(self._lane, ReachPoint(own._point))

    def wait(self, event: Event) -> None:
        """Let later work start only after the point that `event` means now; see `Stream.wait`."""
        point = self._own(event)._recorded()
        self._gate.enter("wait_event")
        self._clock.submit(self._lane, AwaitPoint(point))

    def synchronize(self, timeout_s: float | None = None) -> None:
        """Advance virtual time until everything queued is done; raise and forget a kept failure."""
        self.verify_open()
        self._gate.enter("synchronize")
        self._drain(timeout_s)

    def quiesce(self) -> None:
        """Nothing to wait for: no thread of its own."""
        self.verify_open()

    def _drain(self, timeout_s: float | None) -> None:
        limit_ns = None if timeout_s is None else self._clock.now_ns + round(timeout_s * 1e9)
        if not self._clock.advance_until(lambda: self._lane.is_idle, limit_ns):
            raise StreamTimeoutError(kind="stream", label=self.label, timeout_s=timeout_s or 0.0)
        failure, self._lane.failure = self._lane.failure, None
        if failure is not None:
            raise failure

    def _own(self, event: Event) -> SimulatedEvent:
        self.verify_open()
        if not isinstance(event, SimulatedEvent) or event._registry is not self._registry:
            raise ForeignEventError(event=event.label, stream=self.label)
        event.verify_open()
        return event

    def _release(self) -> None:
        self._clock.close_lane(self._lane, StreamClosingError(stream=self.label))
        self._gate.enter("destroy_stream", releasing=True)


class SimulatedDevice(OwnedDevice):
    """A device without hardware.

    Args:
        label: unique name.
        capacity_bytes: its memory.
        max_streams: most streams open at once.
        unified_memory: whether the host addresses its memory, so that nothing is copied.
        faults: driver calls that fail: `allocate release copy_in copy_out create_stream destroy_stream
            create_event destroy_event record_event wait_event launch synchronize`.
        on_allocation: receives one event for each transition of an allocation.
    """

    device_kind = DeviceKind.SIMULATED

    def __init__(
        self,
        *,
        label: str = "simulated",
        capacity_bytes: int = 1 << 20,
        max_streams: int = 64,
        unified_memory: bool = False,
        faults: FaultPlan | None = None,
        on_allocation: Callable[[AllocationChange], None] = lambda _change: None,
    ) -> None:
        gate = DriverGate(device=label, faults=faults)
        self.clock = VirtualClock()
        super().__init__(
            label=label,
            gate=gate,
            driver=SimulatedMemoryDriver(
                capacity_bytes=capacity_bytes, host_visible=unified_memory, gate=gate
            ),
            capacity_bytes=capacity_bytes,
            max_streams=max_streams,
            unified_memory=unified_memory,
            on_allocation=on_allocation,
        )

    def open_stream(self, label: str, *, threads: int = 1) -> SimulatedStream:
        """A stream that shares the device's virtual clock.

        Raises:
            ThreadCountError, StreamLimitError: see there.
        """
        self._verify_new_stream(label, threads)
        return SimulatedStream(self, label, threads)

    def load(self, buffer: DeviceBuffer) -> bytes:
        """Bytes of a buffer as work on the device reads them: no copy is counted."""
        self.verify_open()
        return buffer._read(0, None)

    def store(self, buffer: DeviceBuffer, data: memoryview) -> None:
        """Write a buffer as work on the device does: no copy is counted."""
        self.verify_open()
        buffer._write(0, data)

    def open_event(self, label: str) -> SimulatedEvent:
        """An event that no stream has recorded."""
        self.verify_open()
        self._gate.enter("create_event")
        return SimulatedEvent(self, label)
