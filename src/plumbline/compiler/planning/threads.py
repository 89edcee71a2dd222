"""How many threads a program is worth. Decided before addresses are: every thread has its own workspace."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from plumbline.contracts.dims import upper_bound
from plumbline.kernels.contract import Work

__all__ = ["SINGLE_THREAD_COST", "choose_threads"]

SINGLE_THREAD_COST = 800_000.0
"""Programs cheaper than this (about 50 us) run on one thread whatever was asked for: waking costs more."""


def choose_threads(works: Iterable[Work], bounds: Mapping[str, int], wanted: int) -> int:
    """The wanted number of threads, or one where all the work together is too little to share.

    Args:
        works: of every step, symbols at their bound.
        bounds: bound of every symbol.
        wanted: what the caller asked for.
    """
    cost = sum(work.unit_cost * upper_bound(work.units, bounds) for work in works)
    return wanted if cost >= SINGLE_THREAD_COST else 1
