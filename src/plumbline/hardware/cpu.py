"""The CPU as a device: host memory, and streams that are lanes of native threads.

`Stream.run` is the low-latency path: on an idle stream the calling thread becomes thread 0 of the launch.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from os import getpid

from plumbline.errors import PlumblineError, ResourceError
from plumbline.hardware.allocation import AllocationChange
from plumbline.hardware.device import (
    DeviceKind,
    Event,
    EventNotRecordedError,
    ForeignEventError,
    StreamTimeoutError,
)
from plumbline.hardware.dispatch import (
    DispatchQueue,
    LaunchCommand,
    Occurrence,
    RecordCommand,
    WaitCommand,
)
from plumbline.hardware.faults import DriverGate, FaultPlan
from plumbline.hardware.handles import OwnedHandle
from plumbline.hardware.host.mappings import HostMemoryDriver
from plumbline.hardware.host.memory import measure_memory
from plumbline.hardware.lane import LaneCode, open_lane
from plumbline.hardware.owned_device import OwnedDevice
from plumbline.hardware.work import NativeLaunch, StreamWork


@dataclass(eq=False, kw_only=True)
class HostMemoryUnknownError(ResourceError):
    """The machine does not say how much memory it has; a capacity must be given."""

    code = "resource.host_memory_unknown"
    owner = "hardware"
    template = "the memory of this machine cannot be measured; open {device!r} with capacity_bytes"

    device: str


class CpuEvent(OwnedHandle):
    """A point in the order of a CPU stream, timed on the monotonic clock."""

    kind = "event"

    def __init__(self, device: CpuDevice, label: str) -> None:
        super().__init__(registry=device.registry, label=label)
        self._gate = device._gate
        self._occurrence: Occurrence | None = None

    def query(self) -> bool:
        """Whether the recorded point has been reached; False when never recorded."""
        self.verify_open()
        return self._occurrence is not None and self._occurrence.reached_ns is not None

    def wait(self, timeout_s: float | None = None) -> None:
        """Block until the recorded point is reached; see `Event.wait`."""
        self.verify_open()
        if not self._recorded().wait(timeout_s):
            raise StreamTimeoutError(kind="event", label=self.label, timeout_s=timeout_s or 0.0)

    def elapsed_ns(self, later: Event) -> int:
        """Nanoseconds from this point to `later`; both must be reached."""
        self.verify_open()
        if not isinstance(later, CpuEvent):
            raise ForeignEventError(event=later.label, stream=self.label)
        return later._reached_ns() - self._reached_ns()

    def _recorded(self) -> Occurrence:
        if self._occurrence is None:
            raise EventNotRecordedError(event=self.label)
        return self._occurrence

    def _reached_ns(self) -> int:
        reached_ns = self._recorded().reached_ns
        if reached_ns is None:
            raise EventNotRecordedError(event=self.label)
        return reached_ns

    def _release(self) -> None:
        self._gate.enter("destroy_event", releasing=True)


class QueuedRun:
    """A `run` that had to queue: its caller blocks until it was executed or skipped."""

    def __init__(self, work: StreamWork, execute_work: Callable[[StreamWork], None]) -> None:
        self._work = work
        self._execute_work = execute_work
        self.done = threading.Event()
        self.failure: PlumblineError | None = None

    def execute(self) -> None:
        """Run the work and wake the caller."""
        try:
            self._execute_work(self._work)
        except PlumblineError as error:
            self.failure = error
            raise
        finally:
            self.done.set()

    def skip(self, error: PlumblineError) -> None:
        """Wake the caller with the failure of earlier work."""
        self.failure = error
        self.done.set()


class CpuStream(OwnedHandle):
    """An ordered lane of `threads` native threads."""

    kind = "stream"

    def __init__(self, device: CpuDevice, label: str, threads: int, lane_code: LaneCode | None) -> None:
        self._lane = open_lane(label, threads, lane_code)
        self._queue = DispatchQueue(label)
        self._gate = device._gate
        self.threads = threads
        self._owner_pid = device.registry.owner_pid
        self._execute = self._lane.execute
        super().__init__(registry=device.registry, label=label)

    def launch(self, work: StreamWork) -> None:
        """Queue work and return at once; see `Stream.launch`."""
        self.verify_open()
        self._queue.submit(LaunchCommand(work, self._execute))

    def run(self, work: StreamWork) -> None:
        """Run work in order and return when it is done; see `Stream.run`."""
        if self._closed or getpid() != self._owner_pid:
            self.verify_open()
        queue = self._queue
        if not queue.pending:
            with queue.turn:
                if not queue.pending:
                    if self._closed or queue.failure is not None:
                        self.verify_open()
                        queue.raise_failure()
                    self._execute(work)
                    return
        self._run_queued(work)

    def bind(self, work: NativeLaunch) -> Callable[[], None]:
        """Prepare a run of the same work many times; see `Stream.bind`."""
        call, queue, turn = self._lane.bind(work), self._queue, self._queue.turn
        process, own = os.getpid, os.getpid()

        def run() -> None:
            if self._closed or process() != own or queue.pending or not turn.acquire(False):
                self.run(work)
                return
            try:
                queue.raise_failure()
                call()
            finally:
                turn.release()

        return run

    def _run_queued(self, work: StreamWork) -> None:
        command = QueuedRun(work, self._execute)
        self._queue.submit(command)
        command.done.wait()
        if command.failure is not None:
            with self._queue.turn:
                self._queue.raise_failure()
            raise command.failure

    def record(self, event: Event) -> None:
        """Let `event` mean the end of everything queued so far; see `Stream.record`."""
        own = self._own(event)
        self._gate.enter("record_event")
        occurrence = Occurrence(own.label)
        own._occurrence = occurrence
        command = RecordCommand(occurrence)
        if not self._queue.perform_now(command):
            self._queue.submit(command)

    def wait(self, event: Event) -> None:
        """Let later work start only after the point that `event` means now; see `Stream.wait`."""
        occurrence = self._own(event)._recorded()
        self._gate.enter("wait_event")
        if occurrence.reached_ns is None:
            self._queue.submit(WaitCommand(occurrence, self._queue.is_closing, self.label))

    def synchronize(self, timeout_s: float | None = None) -> None:
        """Block until everything queued is done; raise and forget a kept failure."""
        self.verify_open()
        self._gate.enter("synchronize")
        self._queue.drain(timeout_s)

    def quiesce(self) -> None:
        """Return when no worker can touch a context of work that has returned."""
        self.verify_open()
        with self._queue.turn:
            self._lane.quiesce()

    def _own(self, event: Event) -> CpuEvent:
        self.verify_open()
        if not isinstance(event, CpuEvent) or event._registry is not self._registry:
            raise ForeignEventError(event=event.label, stream=self.label)
        event.verify_open()
        return event

    def _release(self) -> None:
        self._queue.close()
        with self._queue.turn:
            self._lane.stop()
        self._gate.enter("destroy_stream", releasing=True)


class GatedCpuStream(CpuStream):
    """A CPU stream whose launches pass the gate too, for devices that were opened with a fault plan."""

    def __init__(self, device: CpuDevice, label: str, threads: int, lane_code: LaneCode | None) -> None:
        super().__init__(device, label, threads, lane_code)
        self._execute = self._execute_gated

    def _execute_gated(self, work: StreamWork) -> None:
        self._gate.enter("launch")
        self._lane.execute(work)


class CpuDevice(OwnedDevice):
    """The processor and memory of this machine.

    Args:
        label: unique name.
        capacity_bytes: most device memory to hand out; the measured memory of the machine when None.
        max_streams: most streams open at once.
        faults: driver calls that fail, for tests.
        on_allocation: receives one event for each transition of an allocation.

    Raises:
        HostMemoryUnknownError: no capacity was given and none can be measured.
    """

    device_kind = DeviceKind.CPU

    def __init__(
        self,
        *,
        label: str = "cpu",
        capacity_bytes: int | None = None,
        max_streams: int = 64,
        faults: FaultPlan | None = None,
        on_allocation: Callable[[AllocationChange], None] = lambda _change: None,
    ) -> None:
        gate = DriverGate(device=label, faults=faults)
        capacity = capacity_bytes if capacity_bytes is not None else measure_memory().total_bytes
        if capacity is None:
            raise HostMemoryUnknownError(device=label)
        self._stream_class = CpuStream if faults is None else GatedCpuStream
        super().__init__(
            label=label,
            gate=gate,
            driver=HostMemoryDriver(capacity_bytes=capacity, gate=gate),
            capacity_bytes=capacity,
            max_streams=max_streams,
            unified_memory=True,
            on_allocation=on_allocation,
        )

    def open_stream(self, label: str, *, threads: int = 1, lane_code: LaneCode | None = None) -> CpuStream:
        """A stream of `threads` threads; more than one needs native lane code.

        Raises:
            ThreadCountError, StreamLimitError, LaneCodeMissingError: see there.
        """
        self._verify_new_stream(label, threads)
        return self._stream_class(self, label, threads, lane_code)

    def open_event(self, label: str) -> CpuEvent:
        """An event that no stream has recorded."""
        self.verify_open()
        self._gate.enter("create_event")
        return CpuEvent(self, label)
