"""Which blocks count, and what is made of them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from plumbline.product.bench.blocks import (
    DISTURBANCE_LIMIT_CORES,
    Block,
    find_ratio,
    geometric_mean,
    is_quiet,
    select_blocks,
)
from plumbline.product.bench.measure import BlockOptions, measure_engines, settle
from plumbline.product.bench.processor_time import ProcessorTime, foreign_cores
from plumbline.product.bench.rows import compare_outputs


def block(seconds: float, foreign: float | None = 0.0) -> Block:
    return Block(seconds=(seconds,) * 3, foreign_cores=foreign)


def test_a_block_counts_up_to_the_limit_and_not_above_it() -> None:
    assert is_quiet(block(1.0, DISTURBANCE_LIMIT_CORES))
    assert not is_quiet(block(1.0, DISTURBANCE_LIMIT_CORES + 0.001))


def test_a_block_that_nobody_could_judge_does_not_count_as_quiet() -> None:
    assert not is_quiet(block(1.0, None))


def test_disturbed_blocks_are_left_out_of_the_median() -> None:
    figures = select_blocks([block(9.0, 0.8), block(1.0), block(9.0, 0.5), block(1.2)], wanted=5)
    assert figures.kept_blocks == 2
    assert figures.measured_blocks == 4
    assert figures.median_s == pytest.approx(1.1)
    assert not figures.disturbed


def test_no_more_blocks_than_wanted_are_kept_in_the_order_of_measuring() -> None:
    figures = select_blocks([block(1.0), block(2.0), block(50.0)], wanted=2)
    assert figures.kept_blocks == 2
    assert figures.median_s == pytest.approx(1.5)


def test_without_a_quiet_block_the_least_disturbed_ones_stand_in_and_say_so() -> None:
    figures = select_blocks([block(9.0, 0.9), block(2.0, 0.3), block(7.0, None)], wanted=1)
    assert figures.disturbed
    assert figures.median_s == 2.0


def test_the_tenth_percentile_lies_below_the_median() -> None:
    figures = select_blocks(
        [Block(seconds=tuple(float(v) for v in range(1, 12)), foreign_cores=0.0)], wanted=1
    )
    assert (figures.p10_s, figures.median_s) == (2.0, 6.0)


def test_the_ratio_is_the_better_peer_over_ours() -> None:
    assert find_ratio(2.0, {"a": 8.0, "b": 3.0}) == 1.5
    assert find_ratio(2.0, {}) is None


def test_the_geometric_mean_multiplies() -> None:
    assert geometric_mean([1.0, 4.0, 2.0]) == pytest.approx(2.0)
    assert geometric_mean([]) is None


def test_the_time_of_others_is_the_machine_less_ourselves_and_never_negative() -> None:
    before = ProcessorTime(machine_s=10.0, own_s=1.0, time_s=100.0)
    assert foreign_cores(before, ProcessorTime(machine_s=10.5, own_s=1.2, time_s=102.0)) == pytest.approx(
        0.15
    )
    assert foreign_cores(before, ProcessorTime(machine_s=10.0, own_s=1.2, time_s=102.0)) == 0.0
    assert foreign_cores(before, ProcessorTime(machine_s=None, own_s=1.2, time_s=102.0)) is None


def test_engines_take_turns_and_another_one_starts_each_round() -> None:
    """No engine profits from its place in the round."""
    calls: list[str] = []
    runs = {name: (lambda name=name: calls.append(name)) for name in ("a", "b", "c")}
    options = BlockOptions(wanted=100, rounds=3, block_s=0.0, settle_s=0.0)
    blocks = measure_engines(runs, options)
    turns = [name for place, name in enumerate(calls) if place == 0 or calls[place - 1] != name]
    assert "".join(turns) == "abcbcacab"
    assert {name: len(found) for name, found in blocks.items()} == {"a": 3, "b": 3, "c": 3}
    assert all(len(b.seconds) >= 3 for found in blocks.values() for b in found)


def test_outputs_are_compared_relative_to_the_largest_value_of_the_peer() -> None:
    ours, peer = np.array([1.0, 4.0]), np.array([1.0, 5.0])
    assert compare_outputs({"y": ours}, {"y": peer}) == pytest.approx(0.2)
    assert compare_outputs({"y": ours}, {"renamed": ours}) == 0.0


def test_outputs_of_other_shape_or_with_other_nans_are_infinitely_wrong() -> None:
    assert math.isinf(compare_outputs({"y": np.zeros(2)}, {"y": np.zeros(3)}))
    assert math.isinf(compare_outputs({"y": np.array([np.nan])}, {"y": np.array([1.0])}))


def test_settling_gives_up_at_its_limit() -> None:
    """A limit of nothing is over before the first look."""
    assert settle(0.0) is False
