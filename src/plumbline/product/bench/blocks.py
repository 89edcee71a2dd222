"""Blocks of measurements, and which of them count. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, log

from plumbline.product.cli.latency import percentile

__all__ = [
    "DISTURBANCE_LIMIT_CORES",
    "Block",
    "Figures",
    "find_ratio",
    "geometric_mean",
    "is_quiet",
    "select_blocks",
]

DISTURBANCE_LIMIT_CORES = 0.12
"""A block counts while other processes used at most this much processor time per second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Runs of one engine without a pause.

    Attributes:
        seconds: time of one run, one value per group of runs.
        foreign_cores: processor time that others used per second of the block; None where unknown.
    """

    seconds: tuple[float, ...]
    foreign_cores: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What is reported of one engine: seconds of one run.

    `disturbed` says that too few quiet blocks were found, so that the least disturbed ones stand in.
    """

    median_s: float
    p10_s: float
    kept_blocks: int
    measured_blocks: int
    disturbed: bool


def is_quiet(block: Block, limit_cores: float = DISTURBANCE_LIMIT_CORES) -> bool:
    """Whether others left the machine alone; where nobody can tell, it does not count as quiet."""
    return block.foreign_cores is not None and block.foreign_cores <= limit_cores


def select_blocks(
    blocks: Sequence[Block], wanted: int, limit_cores: float = DISTURBANCE_LIMIT_CORES
) -> Figures:
    """Median and 10th percentile over the first `wanted` quiet blocks.

    Without one, over the least disturbed blocks, marked so. Fewer than wanted are not marked: they are quiet,
    and their number is reported.
    """
    quiet = [block for block in blocks if is_quiet(block, limit_cores)][:wanted]
    kept = quiet or sorted(blocks, key=_disturbance)[:wanted]
    values = [value for block in kept for value in block.seconds]
    return Figures(
        median_s=percentile(values, 50),
        p10_s=percentile(values, 10),
        kept_blocks=len(kept),
        measured_blocks=len(blocks),
        disturbed=not quiet,
    )


def _disturbance(block: Block) -> float:
    return float("inf") if block.foreign_cores is None else block.foreign_cores


def find_ratio(ours_s: float, peers_s: Mapping[str, float]) -> float | None:
    """Better peer / ours: above 1 we are faster. None without a peer.

    >>> find_ratio(2.0, {"a": 3.0, "b": 5.0})
    1.5
    """
    return min(peers_s.values()) / ours_s if peers_s else None


def geometric_mean(ratios: Sequence[float]) -> float | None:
    """The mean ratio, or None of nothing.

    >>> round(geometric_mean([2.0, 0.5]), 6)
    1.0
    """
    return exp(sum(map(log, ratios)) / len(ratios)) if ratios else None
