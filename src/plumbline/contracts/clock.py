"""Time as an argument: monotonic nanoseconds inside, RFC 3339 UTC at the edge."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol

__all__ = ["Clock", "FakeClock", "MonotonicClock", "rfc3339"]


class Clock(Protocol):
    """Tells the time. Decision code never asks one; it is told."""

    def now_ns(self) -> int:
        """Monotonic nanoseconds, comparable between the processes of this machine."""

    def wall_ns(self) -> int:
        """Nanoseconds since 1970 UTC, for what people and databases read."""


class MonotonicClock:
    """The clock of this machine."""

    def now_ns(self) -> int:
        """Monotonic nanoseconds."""
        return time.monotonic_ns()

    def wall_ns(self) -> int:
        """Nanoseconds since 1970 UTC."""
        return time.time_ns()


class FakeClock:
    """A clock that only moves when told. For tests and simulations."""

    def __init__(self, now_ns: int = 0, wall_ns: int = 1_700_000_000_000_000_000) -> None:
        self._now_ns, self._wall_ns = now_ns, wall_ns

    def now_ns(self) -> int:
        """The set time."""
        return self._now_ns

    def wall_ns(self) -> int:
        """The set wall time."""
        return self._wall_ns

    def advance(self, duration_ns: int) -> None:
        """Move both times forward."""
        self._now_ns += duration_ns
        self._wall_ns += duration_ns


def rfc3339(wall_ns: int) -> str:
    """UTC time with microseconds.

    >>> rfc3339(0)
    '1970-01-01T00:00:00.000000Z'
    """
    seconds, rest = divmod(wall_ns, 1_000_000_000)
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest // 1000:06d}Z"
