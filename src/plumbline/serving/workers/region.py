"""The shared file of one worker generation: a header, room for inputs, and a ring for outputs.

    bytes 0..16383       header: int64 fields, see `Field`; from `Field.RUNS` on the seats of `RunSeats`
    input_start..        slots that the gateway hands out (`slots.SlotAllocator`), written by it alone
    ring_start..         outputs, written by the worker alone, in the order of its outcomes

The file has no name and is inherited by descriptor, so nothing of it outlives both processes. Each generation
gets a fresh one: what a dead generation writes late lands in a file that nobody reads any more. On Linux its
size is sealed, so that no worker can make the gateway fault by shrinking it.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from enum import IntEnum

__all__ = ["HEADER_BYTES", "Field", "SharedRegion", "open_unnamed_file"]

HEADER_BYTES = 16384
_MAGIC = 0x504C554D42524547
_LAYOUT = 2
_OPEN_FILES = "/proc/self/fd"


class Field(IntEnum):
    """Index of each int64 of the header, with who writes it."""

    MAGIC = 0
    LAYOUT = 1
    GENERATION = 2
    INPUT_BYTES = 3
    RING_BYTES = 4
    BEATS = 8
    """Worker: turns of its main thread, which turns at least ten times a second."""
    STEPS = 9
    """Worker: steps of its engine loop."""
    RUNNING = 10
    """Worker: calls launched and not answered, as of its last beat."""
    LOG_FAILURE = 11
    """Worker: why its decision log records nothing now: an `errno`, -1 for another reason, 0 for nothing."""
    MISSED = 12
    """Worker: decisions that its log missed. Behind `LOG_FAILURE`: both are one cell for the log."""
    CONSUMED = 16
    """Gateway: position in the ring up to which outputs are copied. A cache line of its own."""
    RUNS = 32
    """Worker: the first of the int64 of `run_board.RunSeats`, up to the end of the header."""


class SharedRegion:
    """One side's mapping of the file. The gateway makes it, the worker attaches.

    Owner of the header fields of its side. Closing drops the mapping; arrays that view it keep it alive.
    """

    def __init__(self, descriptor: int, input_bytes: int, ring_bytes: int) -> None:
        self.descriptor = descriptor
        self.input_bytes, self.ring_bytes = input_bytes, ring_bytes
        self.input_start = HEADER_BYTES
        self.ring_start = HEADER_BYTES + input_bytes
        self._map = mmap.mmap(descriptor, self.ring_start + ring_bytes)
        self.memory = memoryview(self._map)
        self.header = self.memory[:HEADER_BYTES].cast("q")
        self._written = 0
        self._fence = threading.Lock()
        self._fence.acquire()

    @classmethod
    def create(cls, *, generation: int, input_bytes: int, ring_bytes: int) -> SharedRegion:
        """A fresh file; its pages take memory when they are first written.

        Raises:
            OSError: no descriptor or no memory.
        """
        descriptor = open_unnamed_file("plumbline worker", HEADER_BYTES + input_bytes + ring_bytes)
        region = cls(descriptor, input_bytes, ring_bytes)
        for field, value in (
            (Field.GENERATION, generation),
            (Field.INPUT_BYTES, input_bytes),
            (Field.RING_BYTES, ring_bytes),
            (Field.LAYOUT, _LAYOUT),
            (Field.MAGIC, _MAGIC),
        ):
            region.header[field] = value
        return region

    @classmethod
    def attach(cls, descriptor: int) -> SharedRegion:
        """The mapping of a worker; processes that the worker starts or forks get neither it nor the file.

        Raises:
            ValueError: the file is not such a region.
        """
        start = memoryview(os.pread(descriptor, HEADER_BYTES, 0)).cast("q")
        if len(start) < HEADER_BYTES // 8 or start[Field.MAGIC] != _MAGIC or start[Field.LAYOUT] != _LAYOUT:
            raise ValueError("the shared file has another layout")
        region = cls(descriptor, start[Field.INPUT_BYTES], start[Field.RING_BYTES])
        os.set_inheritable(descriptor, False)
        if sys.platform == "linux":
            region._map.madvise(mmap.MADV_DONTFORK)
        return region

    def close(self) -> None:
        """Give the descriptor back. Idempotent."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def forget_in_fork(self) -> None:
        """In a process that the worker forked: give the file back, under every descriptor of it (the mapping
        has one of its own). On Linux it is not mapped there either.
        """
        own, empty = os.fstat(self.descriptor), os.open(os.devnull, os.O_RDONLY)
        open_now = os.listdir(_OPEN_FILES) if os.path.isdir(_OPEN_FILES) else (self.descriptor,)
        for descriptor in map(int, open_now):
            with contextlib.suppress(OSError):  # the one that lists them is closed again
                if os.path.samestat(os.fstat(descriptor), own):
                    os.dup2(empty, descriptor, inheritable=False)  # whoever closes the number later may
        os.close(empty)

    # -- ring, worker side -----------------------------------------------------------------------------------

    def reserve(
        self, size: int, is_over: Callable[[], bool], before_waiting: Callable[[], None]
    ) -> tuple[int, int] | None:
        """Room in the ring: its offset in the file and the position behind it.

        Waits until the gateway has copied enough of what was written before; None when `is_over` says that
        nobody will.

        Args:
            size: at most the ring.
            is_over: asked while waiting.
            before_waiting: sends what was reserved before, else it is waited for in vain.
        """
        start = self._written
        rest = self.ring_bytes - start % self.ring_bytes
        if size > rest:
            start += rest
        end = start + size
        pause_s = 0.00005
        if end - self.header[Field.CONSUMED] > self.ring_bytes:
            before_waiting()
        while end - self.header[Field.CONSUMED] > self.ring_bytes:
            if is_over():
                return None
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, 0.005)
        self._written = end
        return self.ring_start + start % self.ring_bytes, end

    # -- ring, gateway side ----------------------------------------------------------------------------------

    def ring_room(self, previous: int, end: int) -> tuple[int, int] | None:
        """Bytes of the file that an outcome may use which ends at position `end`; None: it may not end there.

        Args:
            previous: position at which the outcome before it ended.
            end: position at which it says that it ends.
        """
        consumed = self.header[Field.CONSUMED]
        if not previous <= end <= previous + self.ring_bytes or end > consumed + self.ring_bytes:
            return None
        start = previous
        if start // self.ring_bytes != (end - 1) // self.ring_bytes and end > start:
            start = end - 1 - (end - 1) % self.ring_bytes
        low = self.ring_start + start % self.ring_bytes
        return low, low + end - start

    def consume(self, position: int) -> None:
        """Everything before `position` is copied. The copies are complete before the worker can see this."""
        self._fence.release()
        self._fence.acquire()
        self.header[Field.CONSUMED] = position


def open_unnamed_file(label: str, size: int) -> int:
    """Descriptor of a file in memory that has no name, of this size; sealed at it where the system can.

    Raises:
        OSError: no descriptor or no room.
    """
    if sys.platform == "linux":
        descriptor = os.memfd_create(label, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(descriptor, size)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
        return descriptor
    descriptor, path = tempfile.mkstemp(prefix="plumbline-")
    os.unlink(path)
    os.ftruncate(descriptor, size)
    return descriptor
