"""The ports that every backend implements: `Device`, `Stream`, `Event`.

Order between launches is explicit: one stream runs in order, two streams are ordered only by an event that
one records and the other waits for. There is no call that waits for a whole device.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, Self

from plumbline.errors import BackendError, Recoverability, ResourceError, ValidationError

if TYPE_CHECKING:
    from plumbline.hardware.handles import HandleRegistry
    from plumbline.hardware.memory import DeviceBuffer, DeviceMemoryPool
    from plumbline.hardware.work import NativeLaunch, StreamWork


class DeviceKind(StrEnum):
    """The families of devices that discovery looks for."""

    CPU = "cpu"
    SIMULATED = "simulated"
    CUDA = "cuda"
    OPENCL = "opencl"
    WEBGPU = "webgpu"
    METAL = "metal"
    MLX = "mlx"
    TPU = "tpu"


@dataclass(eq=False, kw_only=True)
class StreamTimeoutError(ResourceError):
    """A wait ended before the work did. The work goes on."""

    code = "resource.stream_timeout"
    recoverability = Recoverability.TRANSIENT
    owner = "hardware"
    template = "{kind} {label!r} was not done within {timeout_s} s"

    kind: str
    label: str
    timeout_s: float


@dataclass(eq=False, kw_only=True)
class StreamLimitError(ResourceError):
    """The device has as many open streams as it allows."""

    code = "resource.stream_limit"
    recoverability = Recoverability.TRANSIENT
    owner = "hardware"
    template = "device {device!r} has {limit} streams open, its limit"

    device: str
    limit: int


@dataclass(eq=False, kw_only=True)
class EventNotRecordedError(ValidationError):
    """An event was waited for, or measured, before any stream recorded it."""

    code = "validation.event_not_recorded"
    owner = "hardware"
    template = "event {event!r} has not been recorded"

    event: str


@dataclass(eq=False, kw_only=True)
class UpstreamFailedError(BackendError):
    """The work before a recorded event failed, so what waits for the event cannot run."""

    code = "backend.upstream_failed"
    owner = "hardware"
    template = "the work before event {event!r} failed: {reason}"

    event: str
    reason: str


@dataclass(eq=False, kw_only=True)
class StreamClosingError(ResourceError):
    """A stream was closed with this work still queued; the work did not run."""

    code = "resource.stream_closing"
    owner = "hardware"
    template = "stream {stream!r} was closed before its queued work ran"

    stream: str


@dataclass(eq=False, kw_only=True)
class ThreadCountError(ValidationError):
    """A stream was asked for with an impossible number of threads."""

    code = "validation.thread_count"
    owner = "hardware"
    template = "stream {stream!r} cannot have {threads} threads; between 1 and {limit} are possible"

    stream: str
    threads: int
    limit: int


@dataclass(eq=False, kw_only=True)
class ForeignEventError(ValidationError):
    """An event of one device was used on a stream of another."""

    code = "validation.foreign_event"
    owner = "hardware"
    template = "event {event!r} does not belong to the device of stream {stream!r}"

    event: str
    stream: str


class CopyCounter:
    """Counts copies between host and device memory. On unified memory it stays at zero."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.copies = 0
        self.copied_bytes = 0

    def add(self, size_bytes: int) -> None:
        """Count one copy."""
        with self._lock:
            self.copies += 1
            self.copied_bytes += size_bytes


class Event(Protocol):
    """A point in a stream's order. Recording again moves it; a wait means the latest recording before it."""

    @property
    def label(self) -> str:
        """Name for logs."""

    @property
    def closed(self) -> bool:
        """Whether it was closed."""

    def query(self) -> bool:
        """Whether the recorded point has been reached; False when never recorded."""

    def wait(self, timeout_s: float | None = None) -> None:
        """Block the calling thread until the recorded point is reached.

        Raises:
            EventNotRecordedError: never recorded.
            StreamTimeoutError: not reached in time.
            UpstreamFailedError: the work before it failed.
        """

    def elapsed_ns(self, later: Event) -> int:
        """Nanoseconds from this point to `later`, on the device's clock; both must be reached.

        Raises:
            EventNotRecordedError: one of them is not reached.
        """

    def close(self) -> None:
        """Give the event back."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_exception: object) -> None: ...


class Stream(Protocol):
    """An ordered lane of work on one device."""

    @property
    def label(self) -> str:
        """Name for logs."""

    @property
    def threads(self) -> int:
        """Threads that run each native launch."""

    @property
    def closed(self) -> bool:
        """Whether it was closed."""

    def launch(self, work: StreamWork) -> None:
        """Queue work and return at once. A failure is kept for `synchronize`; later work is skipped."""

    def run(self, work: StreamWork) -> None:
        """Run work after what is queued and return when it is done; raises a kept or its own failure."""

    def bind(self, work: NativeLaunch) -> Callable[[], None]:
        """A function without arguments that does `run(work)`, prepared once so that a call costs little."""
        ...

    def record(self, event: Event) -> None:
        """Let `event` mean the end of everything queued so far."""

    def wait(self, event: Event) -> None:
        """Let later work of this stream start only when the point that `event` means now is reached.

        Raises:
            EventNotRecordedError: never recorded.
            ForeignEventError: the event belongs to another device.
        """

    def synchronize(self, timeout_s: float | None = None) -> None:
        """Block until everything queued on this stream is done; raise and forget a kept failure.

        Raises:
            StreamTimeoutError: not done in time.
            LaunchFailedError, UpstreamFailedError, DeviceLostError: a launch failed.
        """

    def quiesce(self) -> None:
        """Return when no thread of this stream can touch a context of work that has returned."""

    def close(self) -> None:
        """Skip queued work, let the running launch end, join the threads."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_exception: object) -> None: ...


class Device(Protocol):
    """One processor with its memory. Closing it requires its streams to be closed first."""

    @property
    def label(self) -> str:
        """Unique name on this machine, such as `cpu`."""

    @property
    def device_kind(self) -> DeviceKind:
        """Its family."""

    @property
    def registry(self) -> HandleRegistry:
        """Counts the live handles of this device, itself included."""

    @property
    def memory(self) -> DeviceMemoryPool:
        """Its memory."""

    @property
    def unified_memory(self) -> bool:
        """Whether host and device share memory, so that copies are not needed."""

    @property
    def copies(self) -> CopyCounter:
        """Copies made between host and device."""

    @property
    def driver_calls(self) -> dict[str, int]:
        """Driver calls made so far, by operation."""

    def open_stream(self, label: str, *, threads: int = 1) -> Stream:
        """A new stream.

        Raises:
            ThreadCountError, StreamLimitError: see there.
        """

    def open_event(self, label: str) -> Event:
        """A new event that no stream has recorded."""

    def place(self, data: memoryview, *, label: str) -> DeviceBuffer:
        """A buffer with the bytes of `data`; counted as a copy unless memory is unified."""

    def copy_in(self, buffer: DeviceBuffer, data: memoryview, offset: int = 0) -> None:
        """Host bytes into a buffer, counted as a copy unless memory is unified."""

    def copy_out(self, buffer: DeviceBuffer, offset: int = 0, size_bytes: int | None = None) -> bytes:
        """Bytes of a buffer to the host, counted as a copy unless memory is unified."""

    def close(self) -> None:
        """Give the device back."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_exception: object) -> None: ...
