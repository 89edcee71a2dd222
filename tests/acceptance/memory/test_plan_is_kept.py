"""The plan's peak is what a run touches: not a byte beyond, and the last 256 bytes are in use.

Addresses are multiples of 256 bytes, so the highest touched byte rounded up to that is the peak exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from plumbline.compiler.planning.lifetimes import align_up
from plumbline.engine.model import Model
from plumbline.testing.bits import (
    Network,
    NetworkWriter,
    compile_network,
    random_attention_network,
    random_image_network,
    random_perceptron,
    random_recurrent_network,
)
from plumbline.testing.bits.variants import splitting_everything


def network_with_workspace(seed: int) -> Network:
    """Determinants: every thread factors a copy of a matrix in its workspace."""
    rng = np.random.default_rng(seed)
    writer = NetworkWriter("determinants", rng)
    y = writer.node("Relu", writer.node("Det", writer.node("Relu", "x")))
    x = rng.standard_normal((6, 16, 16)).astype(np.float32)
    return writer.finish({"x": x}, {y: 1}, is_batched=False)


MAKERS: tuple[tuple[Callable[[int], Network], int], ...] = (
    *((random_image_network, seed) for seed in (0, 2, 5, 9, 15, 19)),
    *((random_perceptron, seed) for seed in (0, 3)),
    *((random_attention_network, seed) for seed in (0, 5)),
    *((random_recurrent_network, seed) for seed in (1, 2)),
    (network_with_workspace, 0),
)


def high_water_bytes(model: Model) -> int:
    """The highest byte that changes, plus one; two markers, as a result may happen to equal one of them."""
    with model.context() as context:
        return max(context.arena_high_water_bytes(0xA5), context.arena_high_water_bytes(0x5A))


@pytest.mark.parametrize("case", MAKERS, ids=lambda case: f"{case[0].__name__}-{case[1]}")
@pytest.mark.parametrize(("threads", "split"), [(1, False), (4, False), (2, True)])
def test_the_highest_touched_byte_lies_in_the_last_planned_one(
    case: tuple[Callable[[int], Network], int], threads: int, split: bool, tmp_path: Path
) -> None:
    """L2-21: the peak that is shown before the weights are read is the peak of a run."""
    make, seed = case
    with splitting_everything() if split else nullcontext():
        model = compile_network(make(seed), tmp_path, threads=threads)
    with model:
        assert model.manifest.threads == (threads if split else 1)
        assert align_up(high_water_bytes(model)) == model.plan.peak_bytes


def test_a_small_program_plans_no_workspace_for_threads_that_it_does_not_use(tmp_path: Path) -> None:
    peaks = set()
    for threads in (1, 8):
        with compile_network(network_with_workspace(0), tmp_path / str(threads), threads=threads) as model:
            peaks.add(model.plan.peak_bytes)
    assert len(peaks) == 1


def test_a_run_with_a_smaller_batch_stays_under_the_peak_of_the_bound(tmp_path: Path) -> None:
    network = random_image_network(4, batch=8, is_batched=True)
    with compile_network(network, tmp_path, bound=8) as model, model.context() as context:
        context.set_symbols({"batch": 1})
        assert 0 < context.arena_high_water_bytes() < model.plan.peak_bytes
