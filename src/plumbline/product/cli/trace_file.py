"""Reading a trace file."""

from __future__ import annotations

from pathlib import Path

from plumbline.telemetry.points import TracePoint
from plumbline.telemetry.trace import TraceInvalidError, read_trace

__all__ = ["read_points"]


def read_points(file: str) -> list[TracePoint]:
    """The points of a JSON lines file.

    Raises:
        TraceInvalidError: it cannot be read, or a line does not follow the schema.
    """
    try:
        with Path(file).open(encoding="utf-8") as lines:
            return read_trace(lines)
    except OSError as error:
        reason = (error.strerror or "it cannot be read").lower()
        raise TraceInvalidError(line=0, reason=f"{Path(file).name}: {reason}") from error
    except UnicodeDecodeError as error:
        raise TraceInvalidError(line=0, reason=f"{Path(file).name}: it is not text") from error
