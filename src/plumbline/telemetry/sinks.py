"""Where trace points go. Off means `NULL_SINK`: a caller with a null sink takes its plain path."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Protocol, Self, TextIO

from plumbline.telemetry.points import TracePoint, to_document


class TraceSink(Protocol):
    """Takes trace points."""

    def emit(self, point: TracePoint) -> None:
        """Take one point. Must not block for long and must not raise for a point of this schema."""


class NullSink:
    """Drops everything: tracing is off."""

    def emit(self, point: TracePoint) -> None:
        """Do nothing."""


NULL_SINK = NullSink()


class MemorySink:
    """Keeps points in order, for tests and for building a picture afterwards."""

    def __init__(self) -> None:
        self.points: list[TracePoint] = []

    def emit(self, point: TracePoint) -> None:
        """Append the point."""
        self.points.append(point)


class JsonLinesSink:
    """Writes one JSON object a line. Owns the file: use it in a `with` block."""

    def __init__(self, path: Path) -> None:
        self._file: TextIO = path.open("w", encoding="utf-8")
        self._lock = threading.Lock()

    def emit(self, point: TracePoint) -> None:
        """Write the point; buffered until `close`."""
        line = json.dumps(to_document(point), separators=(",", ":"))
        with self._lock:
            self._file.write(line + "\n")

    def close(self) -> None:
        """Flush and close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()
