"""The bytes that no plan can go under: the largest set of buffers that are live in one step."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from plumbline.compiler.planning.lifetimes import ALIGNMENT_BYTES, Buffer, align_up

__all__ = ["LowerBound", "find_lower_bound"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LowerBound:
    """`size_bytes` are live together at `step`, the first step where that is so."""

    size_bytes: int
    step: int


def find_lower_bound(buffers: Iterable[Buffer], alignment_bytes: int = ALIGNMENT_BYTES) -> LowerBound:
    """The largest sum of aligned sizes over the buffers live in one step. O(n log n)."""
    change: dict[int, int] = {}
    for buffer in buffers:
        size = align_up(buffer.size_bytes, alignment_bytes)
        change[buffer.first] = change.get(buffer.first, 0) + size
        change[buffer.last + 1] = change.get(buffer.last + 1, 0) - size
    live = peak = peak_step = 0
    for step in sorted(change):
        live += change[step]
        if live > peak:
            peak, peak_step = live, step
    return LowerBound(size_bytes=peak, step=peak_step)
