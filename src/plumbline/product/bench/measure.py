"""Engines take turns in blocks of about 0.2 s, until each has enough quiet blocks or the rounds are over."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from plumbline.product.bench.blocks import Block, is_quiet
from plumbline.product.bench.processor_time import foreign_cores, read_processor_time

__all__ = ["BlockOptions", "measure_block", "measure_engines", "settle"]

GROUP_S = 0.0005
"""Runs are timed in groups of about this length, so that reading the clock costs little."""
SETTLE_STEP_S = 0.01
IDLE_CORES = 0.05
"""Processor time per second below which this process counts as idle."""
WARM_UP_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockOptions:
    """How to measure.

    Attributes:
        wanted: quiet blocks that each engine should have.
        rounds: most blocks of each engine.
        block_s: length of a block.
        settle_s: longest pause before a block, in which threads of the engine before it stop spinning.
        children: processes whose time counts as our own.
    """

    wanted: int = 5
    rounds: int = 12
    block_s: float = 0.2
    settle_s: float = 0.4
    children: tuple[int, ...] = ()


def measure_engines(runs: Mapping[str, Callable[[], None]], options: BlockOptions) -> dict[str, list[Block]]:
    """Blocks of each engine. Every round starts with another engine."""
    blocks: dict[str, list[Block]] = {name: [] for name in runs}
    names = list(runs)
    for number in range(options.rounds if names else 0):
        for name in _rotated(names, number):
            blocks[name].append(measure_block(runs[name], options))
        if all(sum(map(is_quiet, found)) >= options.wanted for found in blocks.values()):
            break
    return blocks


def measure_block(run: Callable[[], None], options: BlockOptions) -> Block:
    """One block: settle, warm up, then time groups of runs."""
    settle(options.settle_s)
    group = _group_size(run)
    before = read_processor_time(options.children)
    spent = _timed_groups(run, group, options.block_s)
    after = read_processor_time(options.children)
    return Block(seconds=tuple(spent), foreign_cores=foreign_cores(before, after))


def settle(limit_s: float) -> bool:
    """Wait until this process is idle, for waiting threads may spin; False where it never was."""
    end = time.perf_counter() + limit_s
    while time.perf_counter() < end:
        began, used = time.perf_counter(), time.process_time()
        time.sleep(SETTLE_STEP_S)
        if time.process_time() - used < IDLE_CORES * (time.perf_counter() - began):
            return True
    return False


def _group_size(run: Callable[[], None]) -> int:
    """Runs that take about `GROUP_S`, after a warm-up of one to three."""
    end = time.perf_counter() + WARM_UP_S
    for _ in range(3):
        run()
        if time.perf_counter() > end:
            return 1
    began = time.perf_counter()
    run()
    return max(1, int(GROUP_S / max(time.perf_counter() - began, 1e-7)))


def _timed_groups(run: Callable[[], None], group: int, block_s: float) -> list[float]:
    spent: list[float] = []
    end = time.perf_counter() + block_s
    while True:
        began = time.perf_counter()
        for _ in range(group):
            run()
        now = time.perf_counter()
        spent.append((now - began) / group)
        if now >= end and len(spent) >= 3:
            return spent


def _rotated(names: Sequence[str], by: int) -> list[str]:
    start = by % len(names)
    return [*names[start:], *names[:start]]
