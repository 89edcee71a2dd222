"""How busy the machine is now (requirement L0-20). A reading is measured or None, which means unknown."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from plumbline.hardware.host.readings import read_text


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReading:
    """Busy-ness of the processors.

    Attributes:
        runnable_1min: average number of runnable tasks over the last minute.
        utilisation: share of all processors' time that was not idle in the interval, 0 to 1.
        process_cores: processor time of this process per second of the interval, in cores.
        interval_s: length of the interval.
    """

    runnable_1min: float | None
    utilisation: float | None
    process_cores: float
    interval_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSample:
    """Counters at one moment; two of them make a reading."""

    busy_ticks: int | None
    total_ticks: int | None
    process_ns: int
    time_ns: int


def sample_load(root: Path = Path("/")) -> LoadSample:
    """Read the counters now."""
    words = (read_text(root / "proc/stat") or "").split("\n")[0].split()
    ticks = [int(word) for word in words[1:9] if word.isdigit()]
    known = len(ticks) >= 5
    return LoadSample(
        busy_ticks=sum(ticks) - ticks[3] - ticks[4] if known else None,
        total_ticks=sum(ticks) if known else None,
        process_ns=time.process_time_ns(),
        time_ns=time.monotonic_ns(),
    )


def load_between(first: LoadSample, second: LoadSample) -> LoadReading:
    """What happened between two samples."""
    interval_ns = max(1, second.time_ns - first.time_ns)
    return LoadReading(
        runnable_1min=_runnable(),
        utilisation=_utilisation(first, second),
        process_cores=(second.process_ns - first.process_ns) / interval_ns,
        interval_s=interval_ns / 1e9,
    )


def measure_load(interval_s: float = 0.1) -> LoadReading:
    """Sample twice, `interval_s` apart. Blocks for that long."""
    first = sample_load()
    time.sleep(interval_s)
    return load_between(first, sample_load())


def _utilisation(first: LoadSample, second: LoadSample) -> float | None:
    counters = (first.busy_ticks, second.busy_ticks, first.total_ticks, second.total_ticks)
    if any(counter is None for counter in counters):
        return None
    busy_before, busy_after, total_before, total_after = (counter or 0 for counter in counters)
    total = total_after - total_before
    return (busy_after - busy_before) / total if total > 0 else None


def _runnable() -> float | None:
    try:
        return os.getloadavg()[0]
    except OSError:
        return None
