"""Native threads of one CPU stream.

A lane is a 4096-byte zeroed page. Slot 0 (int64) holds the number of threads; the rest belongs to the native
lane code that the executable brings along. Worker threads sit inside one native call each, so the interpreter
lock is free while they spin, compute or park.
"""

from __future__ import annotations

import atexit
import ctypes
import struct
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from plumbline.errors import BackendError, Recoverability, ResourceError, ValidationError
from plumbline.hardware.dispatch import call_checked
from plumbline.hardware.host.mappings import address_of, map_anonymous
from plumbline.hardware.work import NativeLaunch, StreamWork

LANE_BYTES = 4096
JOIN_TIMEOUT_S = 10.0

_ENTRY = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
_WORKER = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)
_LAUNCH = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
_LANE = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneCode:
    """Addresses of the native functions that drive a lane.

    Attributes:
        worker: `void(void* lane, int64 tid)`, runs on thread tid >= 1 until `stop`.
        launch: `void(void* lane, void* entry, void* context)`, runs as thread 0; returns when all is done.
        stop: `void(void* lane)`, makes every worker return.
        quiesce: `void(void* lane)`, returns when no worker can touch a context published before.
        library: what keeps this code loaded; held for as long as a worker runs in it.
        run: `void(void* record)`, `launch` with its three arguments in memory; 0 where the library has none.
    """

    worker: int
    launch: int
    stop: int
    quiesce: int
    library: object = None
    run: int = 0


@dataclass(eq=False, kw_only=True)
class LaneCodeMissingError(ValidationError):
    """A stream with several threads needs native lane code."""

    code = "validation.lane_code_missing"
    owner = "hardware"
    template = "stream {stream!r} cannot run on {threads} threads without native lane code"

    stream: str
    threads: int


@dataclass(eq=False, kw_only=True)
class WorkerStuckError(BackendError):
    """A native worker did not return after it was told to stop; its memory is kept."""

    code = "backend.worker_stuck"
    owner = "hardware"
    template = "{workers} workers of stream {stream!r} did not stop within {timeout_s} s"

    stream: str
    workers: int
    timeout_s: float


@dataclass(eq=False, kw_only=True)
class ThreadStartError(ResourceError):
    """The system gave no more threads; those that had started were ended."""

    code = "resource.thread_start"
    recoverability = Recoverability.TRANSIENT
    owner = "hardware"
    template = "stream {stream!r} cannot start {threads} threads"

    stream: str
    threads: int


class DirectLane:
    """One thread without native lane code: the caller runs the entry itself."""

    def __init__(self, stream: str) -> None:
        self._stream = stream
        self._epoch = 0
        self._entries: dict[int, ctypes._FuncPointer] = {}

    def execute(self, work: StreamWork) -> None:
        """Run work on the calling thread."""
        if isinstance(work, NativeLaunch):
            entry = self._entries.get(work.entry)
            if entry is None:
                entry = self._entries[work.entry] = _ENTRY(work.entry)
            self._epoch += 1
            entry(work.context, 0, self._epoch)
        else:
            call_checked(work.function, label=work.label, stream=self._stream)

    def bind(self, work: NativeLaunch) -> Callable[[], None]:
        """Work prepared for many runs."""
        return partial(self.execute, work)

    def quiesce(self) -> None:
        """Nothing to wait for: there are no workers."""

    def stop(self) -> None:
        """Nothing to stop."""


class NativeLane:
    """`threads - 1` parked native workers plus the calling thread. Owns the lane page."""

    def __init__(self, stream: str, threads: int, lane_code: LaneCode) -> None:
        self._stream = stream
        self._page = map_anonymous(LANE_BYTES)
        struct.pack_into("=q", self._page, 0, threads)
        self._lane = ctypes.c_void_p(address_of(memoryview(self._page)))
        self._lane_code = lane_code
        self._launch = _LAUNCH(lane_code.launch)
        self._run = _LANE(lane_code.run) if lane_code.run else None
        self._records: list[ctypes.Array[ctypes.c_void_p]] = []
        self._stop = _LANE(lane_code.stop)
        self._quiesce = _LANE(lane_code.quiesce)
        worker = _WORKER(lane_code.worker)
        self._workers: list[threading.Thread] = []
        try:
            for tid in range(1, threads):
                self._workers.append(self._start(worker, tid))
        except RuntimeError as error:
            self.stop()
            raise ThreadStartError(stream=stream, threads=threads) from error
        _RUNNING_LANES.add(self)

    def _start(self, worker: ctypes._FuncPointer, tid: int) -> threading.Thread:
        page, lane, code = self._page, self._lane, self._lane_code

        def sit_in_native_code() -> None:
            worker(lane, tid)
            _outlive(page, code)

        name = f"plumbline {self._stream} {tid}"
        thread = threading.Thread(target=sit_in_native_code, name=name, daemon=True)
        thread.start()
        return thread

    def execute(self, work: StreamWork) -> None:
        """Run work with the calling thread as thread 0."""
        if type(work) is NativeLaunch:
            self._launch(self._lane, work.entry, work.context)
        elif not isinstance(work, NativeLaunch):
            call_checked(work.function, label=work.label, stream=self._stream)

    def bind(self, work: NativeLaunch) -> Callable[[], None]:
        """Work prepared for many runs: one native call with one argument."""
        if self._run is None:
            return partial(self.execute, work)
        record = (ctypes.c_void_p * 3)(self._lane, work.entry, work.context)
        self._records.append(record)
        return partial(self._run, ctypes.addressof(record))

    def quiesce(self) -> None:
        """Return when no worker can touch a context of finished work."""
        self._quiesce(self._lane)

    def stop(self) -> None:
        """Make the workers return and join them.

        Raises:
            WorkerStuckError: a worker did not return.
        """
        self._stop(self._lane)
        for worker in self._workers:
            worker.join(JOIN_TIMEOUT_S)
        _RUNNING_LANES.discard(self)
        stuck = sum(worker.is_alive() for worker in self._workers)
        if stuck:
            raise WorkerStuckError(stream=self._stream, workers=stuck, timeout_s=JOIN_TIMEOUT_S)


_RUNNING_LANES: weakref.WeakSet[NativeLane] = weakref.WeakSet()


def _outlive(*_kept: object) -> None:
    """Mentioned by a worker after its native call, so that page and code live at least as long as it."""


@atexit.register
def _stop_running_lanes() -> None:
    """At exit, end native threads of streams that nobody closed, before their code is unloaded."""
    for lane in list(_RUNNING_LANES):
        lane.stop()


Lane = DirectLane | NativeLane


def open_lane(stream: str, threads: int, lane_code: LaneCode | None) -> Lane:
    """The lane of a stream.

    Raises:
        LaneCodeMissingError: several threads and no native code.
    """
    if lane_code is not None:
        return NativeLane(stream, threads, lane_code)
    if threads > 1:
        raise LaneCodeMissingError(stream=stream, threads=threads)
    return DirectLane(stream)
