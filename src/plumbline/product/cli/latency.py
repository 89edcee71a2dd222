"""Latency of repeated runs, as percentiles of monotonic nanoseconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

__all__ = ["describe_latency", "measure_runs", "percentile"]

Result = TypeVar("Result")


def measure_runs(run: Callable[[], Result], count: int) -> tuple[Result, dict[str, float]]:
    """Call `run` `count` times; where that is more than once, an uncounted call comes first.

    Returns:
        The last result, and the latency as `describe_latency` gives it.
    """
    if count > 1:
        run()
    spent: list[int] = []
    for _ in range(count):
        began = time.perf_counter_ns()
        result = run()
        spent.append(time.perf_counter_ns() - began)
    return result, describe_latency(spent)


def describe_latency(spent_ns: Sequence[float]) -> dict[str, float]:
    """Number of runs, minimum, 10th, 50th and 90th percentile in nanoseconds.

    >>> describe_latency([3, 1, 2])
    {'runs': 3, 'min': 1, 'p10': 1.2, 'median': 2.0, 'p90': 2.8}
    """
    return {
        "runs": len(spent_ns),
        "min": min(spent_ns),
        "p10": percentile(spent_ns, 10),
        "median": percentile(spent_ns, 50),
        "p90": percentile(spent_ns, 90),
    }


def percentile(values: Sequence[float], rank: float) -> float:
    """The value at `rank` percent of the sorted values, linear between neighbours."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * rank / 100
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return round(ordered[low] + (ordered[high] - ordered[low]) * (place - low), 9)
