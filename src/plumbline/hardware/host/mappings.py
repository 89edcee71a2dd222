"""Page-aligned memory of this process and read-only views of files, owned and checked."""

from __future__ import annotations

import mmap
import os
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from plumbline.errors import ArtifactError, BackendError
from plumbline.hardware.faults import DeviceMemoryExhaustedError, DriverGate
from plumbline.hardware.handles import HandleRegistry, OwnedHandle
from plumbline.hardware.memory import MemoryBlock


@dataclass(eq=False, kw_only=True)
class MappingFailedError(BackendError):
    """The operating system refused a mapping call."""

    code = "backend.mapping_failed"
    owner = "hardware"
    template = "{operation} of {size_bytes} bytes failed: {reason}"

    operation: str
    size_bytes: int
    reason: str


@dataclass(eq=False, kw_only=True)
class FileMappingError(ArtifactError):
    """A file cannot be mapped."""

    code = "artifact.file_mapping"
    owner = "hardware"
    template = "file {name!r} cannot be mapped: {reason}"

    name: str
    reason: str


def map_anonymous(size_bytes: int) -> mmap.mmap:
    """Private, zeroed, page-aligned memory. It is unmapped when its last view is gone.

    Raises:
        MappingFailedError: the system refused.
    """
    try:
        return mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (OSError, ValueError, OverflowError) as error:
        raise MappingFailedError(operation="mmap", size_bytes=size_bytes, reason=str(error)) from error


def address_of(view: memoryview) -> int:
    """Address of the first byte, for native code. Valid while a view or array of this memory exists."""
    return int(np.frombuffer(view, dtype=np.uint8).ctypes.data)


class HostBlock:
    """One anonymous mapping; views made by `view` end with `end`, arrays keep the mapping alive."""

    def __init__(self, size_bytes: int) -> None:
        self._mapping = map_anonymous(size_bytes)
        self._bytes = memoryview(self._mapping)
        self._views: list[weakref.ref[memoryview]] = []

    def read(self, offset: int, size_bytes: int) -> bytes:
        """Copy bytes out."""
        return bytes(self._bytes[offset : offset + size_bytes])

    def write(self, offset: int, data: memoryview) -> None:
        """Copy bytes in."""
        self._bytes[offset : offset + data.nbytes] = data.cast("B")

    def view(self, offset: int, size_bytes: int) -> memoryview:
        """Writable bytes; a read through it after `end` raises `ValueError`."""
        view = self._bytes[offset : offset + size_bytes]
        self._views = [reference for reference in self._views if reference() is not None]
        self._views.append(weakref.ref(view))
        return view

    def end(self, reclaimed: Callable[[], None]) -> None:
        """End every view, unmap as soon as no array needs the memory, then call `reclaimed`."""
        weakref.finalize(self._mapping, reclaimed).atexit = False
        for view in [reference() for reference in self._views]:
            _release_unless_lent(view)
        _release_unless_lent(self._bytes)
        del self._bytes, self._mapping


def _release_unless_lent(view: memoryview | None) -> None:
    """Invalidate `view` unless an array was made from it; such an array keeps the mapping alive."""
    if view is None:
        return
    try:
        view.release()
    except BufferError:
        return


class HostMemoryDriver:
    """Anonymous memory up to a capacity. Owns the count of mapped bytes."""

    host_visible = True

    def __init__(self, *, capacity_bytes: int, gate: DriverGate) -> None:
        self._capacity_bytes = capacity_bytes
        self._gate = gate
        self._mapped_bytes = 0
        self._lock = threading.RLock()

    def allocate(self, size_bytes: int) -> MemoryBlock | None:
        """One `mmap`; None when the capacity or the system does not allow it."""
        with self._lock:
            try:
                self._gate.enter("allocate")
                if self._mapped_bytes + size_bytes > self._capacity_bytes:
                    return None
                block = HostBlock(size_bytes)
            except (MappingFailedError, DeviceMemoryExhaustedError):
                return None
            self._mapped_bytes += size_bytes
        weakref.finalize(block._mapping, self._unmapped, size_bytes).atexit = False
        return block

    def release(self, block: MemoryBlock, reclaimed: Callable[[], None]) -> None:
        """End the block's views; its pages go back when the last array over them is gone."""
        if isinstance(block, HostBlock):
            block.end(reclaimed)
        self._gate.enter("release", releasing=True)

    def _unmapped(self, size_bytes: int) -> None:
        with self._lock:
            self._mapped_bytes -= size_bytes


class FileMapping(OwnedHandle):
    """A file mapped read-only. Arrays made from `view` keep the pages mapped after `close`."""

    kind = "file mapping"

    def __init__(self, path: Path, *, registry: HandleRegistry) -> None:
        self._mapping = _map_file(path)
        self.size_bytes = len(self._mapping)
        super().__init__(registry=registry, label=path.name)

    def view(self, offset: int = 0, size_bytes: int | None = None) -> memoryview:
        """Read-only bytes of the file.

        Raises:
            FileMappingError: the range leaves the file.
            HandleClosedError, HandleForkedError: see `OwnedHandle.verify_open`.
        """
        self.verify_open()
        end = self.size_bytes if size_bytes is None else offset + size_bytes
        if not 0 <= offset <= end <= self.size_bytes:
            raise FileMappingError(name=self.label, reason=f"bytes [{offset}, {end}) are outside")
        return memoryview(self._mapping)[offset:end]

    def _release(self) -> None:
        del self._mapping


def _map_file(path: Path) -> mmap.mmap:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise FileMappingError(name=path.name, reason=error.strerror or "cannot be opened") from error
    try:
        return mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise FileMappingError(name=path.name, reason=str(error)) from error
    finally:
        os.close(descriptor)
