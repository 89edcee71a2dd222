"""`DecisionLog`: hash-chained records in a file mapping that outlives its writer (requirement L4-17).

What `append` returned from is in memory that belongs to the file: it survives any death of the process,
SIGKILL included (not that of the machine). The log is cut into numbered segments; each begins with the digest
of the record before it, a segment record and a snapshot, so reading and replay can begin at any kept one. The
layout is in `decision_log_files`, the reader in `decision_log_reader`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import mmap
import os
from collections.abc import Callable, MutableSequence
from dataclasses import dataclass
from pathlib import Path

from plumbline.contracts.clock import Clock, MonotonicClock
from plumbline.contracts.records import (
    DIGEST_BYTES,
    SCHEMA_VERSION,
    START_DIGEST,
    Segment,
    chain_digest,
    encode_record,
)
from plumbline.errors import ResourceError
from plumbline.telemetry.decision_log_files import (
    MAGIC,
    SIZE_WORDS,
    read_segment,
    segment_files,
    segment_path,
    verify_log_name,
)

__all__ = ["DecisionLog", "DecisionLogBusy", "DecisionLogFailed"]

DEFAULT_SEGMENT_BYTES = 1 << 20
"""Making the next segment takes the writer about half a millisecond for each MiB."""
DEFAULT_KEEP_SEGMENTS = 64
_OVERHEAD = SIZE_WORDS.size + DIGEST_BYTES
_ALL_BITS = 0xFFFFFFFF
_RETRY_NS = 1_000_000_000
_LOOK_EVERY = 256
"""Records between two looks whether the file of the segment is still there."""


@dataclass(eq=False, kw_only=True)
class DecisionLogBusy(ResourceError):
    """Another writer has this log open."""

    code = "resource.decision_log_busy"
    owner = "telemetry"
    template = "decision log {name!r} is being written by another process"

    name: str


@dataclass(eq=False, kw_only=True)
class DecisionLogFailed(ResourceError):
    """The file of a segment could not be made or extended; what was written before is intact."""

    code = "resource.decision_log"
    owner = "telemetry"
    template = "decision log {name!r}: {reason}"

    name: str
    reason: str


class DecisionLog:
    """Writer of one log. Owns its files, its mapping and the end of its chain; used by one thread.

    Going on with a log of the same name begins a new segment after the last whole record that is there.

    Attributes:
        name: of the log.
        records: written so far in the life of the log; the number of the next record.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        *,
        segment_bytes: int = DEFAULT_SEGMENT_BYTES,
        keep_segments: int = DEFAULT_KEEP_SEGMENTS,
        clock: Clock | None = None,
        health: MutableSequence[int] | None = None,
    ) -> None:
        """Args:
            folder: for the segments; made when absent.
            name: of the log; several logs may share a folder.
            segment_bytes: of records after those that a segment begins with; then it is full.
            keep_segments: older ones are removed.
            clock: for the times of segment records.
            health: a cell of two that whoever watches may read at any time: why nothing is recorded now (an
                `errno`, -1 for another reason, 0 for nothing), and how many records were missed.

        Raises:
            LogNameRefused: the name cannot begin a file name.
            DecisionLogBusy: another writer has it open.
            DecisionLogDamaged: the last segment that is there is damaged.
            DecisionLogFailed: the folder cannot be used.
        """
        self.name = verify_log_name(name)
        self.records = 0
        self._folder = folder
        self._segment_bytes = max(segment_bytes, 4096)
        self._keep = max(1, keep_segments)
        self._clock: Clock = clock or MonotonicClock()
        self._snapshot: Callable[[], bytes] | None = None
        self._map: mmap.mmap | None = None
        self._file = -1
        self._used = self._size = self._full_at = 0
        self._next_segment = 0
        self._digest = START_DIGEST
        self._fresh = True
        self._missed = 0
        self._failure = ""
        self._errno = 0
        self._health = health
        self._retry_at_ns = 0
        self._lock = self._open_lock()
        try:
            self._recover()
        except BaseException:
            os.close(self._lock)
            raise

    @property
    def digest(self) -> bytes:
        """Digest of the last record."""
        return self._digest

    def trouble(self) -> str:
        """Why records cannot be written at present, or an empty text.

        After a failure this tries a new segment, at most once a second: the log recovers when there is room
        again, also where nobody dares to append as long as there is trouble.
        """
        if self._failure and self.is_due():
            with contextlib.suppress(DecisionLogFailed):
                self.rotate()
        return self._failure

    def begin_segments_with(self, snapshot: Callable[[], bytes], missed: int = 0) -> None:
        """Each segment from now on begins with the record body that `snapshot` gives.

        A new life begins, or `missed` records are not in the log: so does a segment, marked `fresh`, with the
        first snapshot.

        Raises:
            DecisionLogFailed: its file could not be made.
        """
        self._snapshot = snapshot
        self._fresh = True
        self._missed = missed
        self._retry_at_ns = self._clock.now_ns() + _RETRY_NS
        self.rotate()

    def note(self, stopped_because: str | None, missed: int) -> None:
        """What the recorder that writes into this log says of itself, for `health`."""
        if self._health is not None:
            self._health[0] = 0 if stopped_because is None else self._errno or -1
            self._health[1] = missed

    def is_due(self) -> bool:
        """Whether segments may be begun again after a failure: at most once a second."""
        return self._clock.now_ns() >= self._retry_at_ns

    def append(self, body: bytes) -> None:
        """Write a record body (`contracts.records.encode_record`).

        Raises:
            DecisionLogFailed: the record was not written: this segment could not be extended, or its file is
                gone.
        """
        target = self._map
        if not self.records % _LOOK_EVERY:
            self._verify_named()
        if target is None:
            self.rotate()
            return self.append(body)
        size = len(body)
        begin = self._used + SIZE_WORDS.size
        end = begin + size + DIGEST_BYTES
        if end > self._size:
            target = self._extend(end)
        digest = hashlib.sha256(self._digest + body).digest()
        target[begin : begin + size] = body
        target[begin + size : end] = digest
        target[self._used : begin] = SIZE_WORDS.pack(size, size ^ _ALL_BITS)
        self._digest = digest
        self._used = end
        self.records += 1
        if end >= self._full_at and (not self._failure or self.is_due()):
            with contextlib.suppress(DecisionLogFailed):  # this record is in; the next one may find no room
                self.rotate()
        return None

    def rotate(self) -> None:
        """Begin the next segment, and remove those that are too old.

        A segment gets its name when its first records are in it, so one that is there is always begun.

        Raises:
            DecisionLogFailed: its file could not be made; the present segment stays open.
        """
        number = self._next_segment
        frames, digest, count = self._first_records(number)
        target, file = self._make_segment(segment_path(self._folder, self.name, number), frames)
        self._close_segment()
        self._map, self._file, self._size, self._used = target, file, len(target), len(frames)
        self._full_at = self._room_after(frames)
        self._digest = digest
        self.records += count
        self._fresh = False
        self._missed = 0
        self._failure, self._errno = "", 0
        self._next_segment = number + 1
        for old, path in segment_files(self._folder, self.name):
            if old <= number - self._keep:
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Cut the last segment to what is used, and give everything back. May be called twice."""
        self._close_segment()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _first_records(self, number: int) -> tuple[bytes, bytes, int]:
        """What a segment begins with: bytes of the file, digest after them, and how many records."""
        segment = Segment(
            self._clock.now_ns(),
            SCHEMA_VERSION,
            self.name,
            number,
            self.records,
            self._clock.wall_ns(),
            self._fresh,
            self._missed,
        )
        bodies = [encode_record(segment)]
        if self._snapshot is not None:
            bodies.append(self._snapshot())
        parts, digest = [MAGIC, self._digest], self._digest
        for body in bodies:
            digest = chain_digest(digest, body)
            parts += [SIZE_WORDS.pack(len(body), len(body) ^ _ALL_BITS), body, digest]
        return b"".join(parts), digest, len(bodies)

    def _make_segment(self, path: Path, frames: bytes) -> tuple[mmap.mmap, int]:
        """A file of that name with its first records and room for more; its mapping and descriptor."""
        unnamed = self._folder / f"{self.name}.new"
        size = self._room_after(frames) + _OVERHEAD
        file = -1
        try:
            file = os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            _reserve(file, 0, size)
            target = mmap.mmap(file, size)
            target[: len(frames)] = frames
            os.rename(unnamed, path)
        except OSError as error:
            if file >= 0:
                os.close(file)
            unnamed.unlink(missing_ok=True)
            raise self._failed(error) from error
        return target, file

    def _room_after(self, frames: bytes) -> int:
        """Where a segment is full: a large snapshot is followed by at least as many bytes of records."""
        return len(frames) + max(self._segment_bytes, len(frames))

    def _extend(self, end: int) -> mmap.mmap:
        """Make the present segment long enough for a record that ends at `end`."""
        old, size = self._map, end + self._segment_bytes
        try:
            _reserve(self._file, self._size, size - self._size)
            target = mmap.mmap(self._file, size)
        except OSError as error:
            raise self._failed(error) from error
        if old is not None:
            old.close()
        self._map, self._size = target, size
        self._failure, self._errno = "", 0
        return target

    def _verify_named(self) -> None:
        """What is written into a file without a name is gone with this process."""
        if self._map is None or os.fstat(self._file).st_nlink:
            return
        raise self._failed(OSError(errno.ENOENT, "the file of the log was removed"))

    def _close_segment(self) -> None:
        if self._map is None:
            return
        self._map.close()
        self._map = None
        os.ftruncate(self._file, self._used)
        os.close(self._file)

    def _open_lock(self) -> int:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(self._folder / f"{self.name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._failed(error) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise DecisionLogBusy(name=self.name) from error
        return lock

    def _recover(self) -> None:
        """Go on after the last whole record."""
        files = segment_files(self._folder, self.name)
        if files:
            number, path = files[-1]
            last = read_segment(path)
            self._digest = last.digest
            self.records = last.records[-1].number + 1
            self._next_segment = number + 1

    def _failed(self, error: OSError) -> DecisionLogFailed:
        self._failure = error.strerror or "the file system refused"
        self._errno = error.errno or -1
        self._retry_at_ns = self._clock.now_ns() + _RETRY_NS
        return DecisionLogFailed(name=self.name, reason=self._failure)


def _reserve(file: int, offset: int, size: int) -> None:
    """Allocate zeros, so that no later store into the mapping finds the disk full."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, offset, size)
    else:
        os.pwrite(file, bytes(size), offset)
