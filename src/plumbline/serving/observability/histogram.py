"""`Histogram`: counts by bucket in plain integers."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

__all__ = ["COUNT_BOUNDS", "DURATION_BOUNDS_NS", "Histogram"]

DURATION_BOUNDS_NS = tuple(
    round(ms * 1e6)
    for ms in (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 60_000)
)
"""Upper bounds of durations, nanoseconds: 50 us to one minute."""

COUNT_BOUNDS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Histogram:
    """Owned by one thread. A value belongs to the first bucket whose bound is not smaller."""

    __slots__ = ("_bounds", "_counts", "total")

    def __init__(self, bounds: Sequence[int] = DURATION_BOUNDS_NS) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self.total = 0

    def observe(self, value: int) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    @property
    def count(self) -> int:
        """How many values were counted."""
        return sum(self._counts)

    def cumulative(self) -> list[tuple[int | None, int]]:
        """(bound, values not above it), ending with (None, all of them)."""
        pairs: list[tuple[int | None, int]] = []
        reached = 0
        for bound, count in zip((*self._bounds, None), self._counts, strict=True):
            reached += count
            pairs.append((bound, reached))
        return pairs
