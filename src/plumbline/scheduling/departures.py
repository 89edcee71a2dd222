"""How fast requests leave the queue, and so when a place is free."""

from __future__ import annotations

__all__ = ["Departures"]

FIRST_GUESS_NS = 10_000_000
LONGEST_S = 30.0
SHORTEST_S = 0.001


class Departures:
    """Mean time between two requests that leave to run. Owned by a `DecisionCore`; integers only.

    Attributes:
        mean_ns: an average in which each launch counts an eighth; 10 ms before anything left.
        last_ns: when the last one left, or None.
    """

    __slots__ = ("last_ns", "mean_ns")

    def __init__(self) -> None:
        self.mean_ns = FIRST_GUESS_NS
        self.last_ns: int | None = None

    def depart(self, now_ns: int, requests: int) -> None:
        """`requests` left together."""
        if self.last_ns is not None:
            gap_ns = (now_ns - self.last_ns) // max(1, requests)
            self.mean_ns += (gap_ns - self.mean_ns) // 8
        self.last_ns = now_ns

    def retry_after_s(self, capacity: int) -> float:
        """When a tenth of a full queue will have left at the present rate: between 1 ms and 30 s."""
        wait_s = self.mean_ns * max(1, capacity // 10) / 1e9
        return min(LONGEST_S, max(SHORTEST_S, wait_s))
