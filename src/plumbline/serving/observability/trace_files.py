"""`TraceFiles`: trace points as JSON lines in files of bounded size, of which the last ones are kept.

Each file begins with the versions that were loaded, so every trace has the revisions of its sources (L3-03).
A file is changed where nothing is allocated, so each one is a trace that `plumb trace check` accepts by
itself. Under a load that never pauses a file may grow to `_PATIENCE` times its size; then it is changed all
the same, and is a trace only together with the next.
"""

from __future__ import annotations

import contextlib
import json
import threading
from pathlib import Path
from typing import Self, TextIO

from plumbline.telemetry.points import (
    TensorAllocation,
    TensorDeallocation,
    TracePoint,
    VersionLoaded,
    to_document,
)

__all__ = ["TraceFiles"]

_PATIENCE = 4


class TraceFiles:
    """Implements `telemetry.sinks.TraceSink`. Owner of the open file.

    Points of a launch are on the system's side once its memory is free again, so the death of a process loses
    at most what was under way. A disk that is full ends the trace, not the server.

    Attributes:
        lost: points that could not be written.

    Args:
        folder: of the files `trace-000001.jsonl`, ...
        file_bytes: size at which the next one begins.
        keep: files that stay.
    """

    def __init__(self, folder: Path, *, file_bytes: int = 16 << 20, keep: int = 8) -> None:
        self._folder, self._file_bytes, self._keep = folder, file_bytes, max(keep, 1)
        self._lock = threading.Lock()
        self._number = self._written = self._live = self.lost = 0
        self._file: TextIO | None = None
        self._versions: dict[str, str] = {}
        self._closed = False

    def emit(self, point: TracePoint) -> None:
        """Write the point. Never raises."""
        line = json.dumps(to_document(point), separators=(",", ":")) + "\n"
        with self._lock:
            if self._closed:
                self.lost += 1
                return
            try:
                self._write(point, line)
            except OSError:
                self.lost += 1

    def close(self) -> None:
        """Flush and close; later points are lost. Closing twice is harmless."""
        with self._lock:
            self._closed = True
            self._end_file()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def _write(self, point: TracePoint, line: str) -> None:
        if self._file is None or self._is_full():
            self._begin_file()
        if self._file is None:
            return
        if isinstance(point, VersionLoaded):
            self._versions[point.version] = line
        self._file.write(line)
        self._written += len(line)
        if isinstance(point, TensorAllocation):
            self._live += 1
        elif isinstance(point, TensorDeallocation):
            self._live -= 1
            self._file.flush()

    def _is_full(self) -> bool:
        patience = _PATIENCE if self._live > 0 else 1
        return self._written >= self._file_bytes * patience

    def _begin_file(self) -> None:
        self._end_file()
        self._number += 1
        self._written = 0
        self._file = (self._folder / f"trace-{self._number:06d}.jsonl").open("w", encoding="ascii")
        self._file.writelines(self._versions.values())
        with contextlib.suppress(OSError):
            (self._folder / f"trace-{self._number - self._keep:06d}.jsonl").unlink()

    def _end_file(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            with contextlib.suppress(OSError):
                file.close()
