"""Processor time of this machine, of this process and of chosen children, to tell who disturbed a block."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

from plumbline.hardware.host.load import sample_load
from plumbline.hardware.host.readings import read_text

__all__ = ["ProcessorTime", "foreign_cores", "read_processor_time"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessorTime:
    """Readings of one moment in seconds; `machine_s` is None where the system does not tell."""

    machine_s: float | None
    own_s: float
    time_s: float


def read_processor_time(children: Sequence[int] = ()) -> ProcessorTime:
    """Read the counters.

    Args:
        children: process ids whose time counts as our own.
    """
    busy = sample_load().busy_ticks
    own = time.process_time() + sum(_child_seconds(child) for child in children)
    return ProcessorTime(
        machine_s=None if busy is None else busy / _ticks_per_second(), own_s=own, time_s=time.monotonic()
    )


def foreign_cores(before: ProcessorTime, after: ProcessorTime) -> float | None:
    """Processor time of others per second between two readings, never negative; None where unknown."""
    if before.machine_s is None or after.machine_s is None:
        return None
    foreign = (after.machine_s - before.machine_s) - (after.own_s - before.own_s)
    return max(0.0, foreign / max(after.time_s - before.time_s, 1e-9))


def _child_seconds(process: int) -> float:
    """User and system time of a process: fields 14 and 15 of its stat file."""
    from pathlib import Path

    fields = (read_text(Path(f"/proc/{process}/stat")) or "").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _ticks_per_second() if len(fields) > 12 else 0.0


def _ticks_per_second() -> int:
    return int(os.sysconf("SC_CLK_TCK"))
