"""NaN and infinity go where ONNX says, also through everything that is fused, blocked or padded.

The oracle is the imported graph evaluated by the references of its operators, before any pass.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from plumbline.compiler.importers.onnx import import_onnx
from plumbline.testing.bits import (
    Network,
    NetworkWriter,
    compile_network,
    random_attention_network,
    random_image_network,
    random_perceptron,
    random_recurrent_network,
    run_poisoned,
)
from plumbline.testing.interpreter import evaluate_graph

SPECIAL = (np.nan, np.inf, -np.inf)


def poisoned_inputs(network: Network, seed: int) -> dict[str, np.ndarray]:
    """The inputs with one to three special values somewhere."""
    rng = np.random.default_rng(seed)
    inputs = {name: array.copy() for name, array in network.inputs.items()}
    for array in inputs.values():
        for value in SPECIAL[: int(rng.integers(1, 4))]:
            array.reshape(-1)[int(rng.integers(array.size))] = value
    return inputs


def verify_special_values(network: Network, inputs: dict[str, np.ndarray], folder: Path) -> None:
    with np.errstate(all="ignore"):
        expected = evaluate_graph(import_onnx(network.model), inputs)
    with compile_network(network, folder) as model:
        ours = run_poisoned(model, inputs)
    for name, wanted in expected.items():
        what = f"{network.name} {name}"
        for is_special in (np.isnan, np.isposinf, np.isneginf):
            np.testing.assert_array_equal(is_special(ours[name]), is_special(wanted), err_msg=what)
        finite = np.isfinite(wanted)
        largest = float(np.max(np.abs(wanted[finite]), initial=1.0))
        np.testing.assert_allclose(
            ours[name][finite], wanted[finite], rtol=1e-3, atol=1e-4 * largest, err_msg=what
        )


@pytest.mark.parametrize("seed", range(25))
def test_special_values_in_a_random_image_network_reach_what_they_should_and_nothing_else(
    seed: int, tmp_path: Path
) -> None:
    network = random_image_network(seed)
    verify_special_values(network, poisoned_inputs(network, seed), tmp_path)


@pytest.mark.parametrize("make", [random_perceptron, random_attention_network, random_recurrent_network])
@pytest.mark.parametrize("seed", range(3))
def test_special_values_in_a_random_network_over_rows_reach_what_they_should_and_nothing_else(
    make: Callable[[int], Network], seed: int, tmp_path: Path
) -> None:
    network = make(seed)
    verify_special_values(network, poisoned_inputs(network, seed), tmp_path)


@pytest.mark.parametrize("value", SPECIAL)
@pytest.mark.parametrize(("channels", "groups"), [(6, 2), (6, 3), (24, 3), (20, 20), (34, 2), (48, 16)])
def test_a_special_value_in_one_group_stays_in_its_group(
    channels: int, groups: int, value: float, tmp_path: Path
) -> None:
    """Groups that share a channel block share registers, never values."""
    writer = NetworkWriter("groups", np.random.default_rng(channels))
    first = writer.node("Relu", writer.node("Conv", "x", writer.weights(channels, 1, 1, 1), group=channels))
    weights = writer.weights(channels, channels // groups, 3, 3)
    y = writer.node("Conv", first, weights, pads=[1, 1, 1, 1], group=groups)
    x = np.abs(np.random.default_rng(1).standard_normal((1, channels, 6, 7))).astype(np.float32)
    network = writer.finish({"x": x}, {y: 4}, is_batched=False)
    size = channels // groups
    with compile_network(network, tmp_path) as model:
        clean = run_poisoned(model, {"x": x})[y]
        for group in (0, groups - 1):
            dirty = x.copy()
            dirty[0, group * size] = value
            found = run_poisoned(model, {"x": dirty})[y]
            others = [c for c in range(channels) if c // size != group]
            np.testing.assert_array_equal(found[:, others], clean[:, others])


@pytest.mark.parametrize("channels", [1, 5, 15, 17, 33])
def test_lanes_past_the_last_channel_never_leak(channels: int, tmp_path: Path) -> None:
    """Where the padding of a block becomes 1/0, the log of zero or infinity, no result notices."""
    rng = np.random.default_rng(channels)
    writer = NetworkWriter("lanes", rng)
    y = writer.node("Conv", "x", writer.weights(channels, 3, 3, 3), pads=[1, 1, 1, 1])
    y = writer.node("Add", writer.node("Abs", y), writer.constant(np.full((channels, 1, 1), 0.5, np.float32)))
    for operator in ("Reciprocal", "Log", "Exp"):
        y = writer.node(operator, y)
    pooled = writer.node("AveragePool", y, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    joined = writer.node("Concat", y, pooled, axis=1)
    dense = writer.node("Conv", joined, writer.weights(7, 2 * channels, 1, 1))
    mean = writer.node("GlobalAveragePool", y)
    x = rng.standard_normal((2, 3, 5, 6)).astype(np.float32)
    network = writer.finish({"x": x}, {dense: 4, mean: 4, pooled: 4}, is_batched=False)
    expected = evaluate_graph(import_onnx(network.model), {"x": x})
    with compile_network(network, tmp_path) as model:
        ours = run_poisoned(model, {"x": x})
    for name, wanted in expected.items():
        assert np.isfinite(ours[name]).all()
        np.testing.assert_allclose(ours[name], wanted, rtol=1e-3, atol=1e-4, err_msg=name)


def test_a_nan_pixel_is_seen_by_every_window_over_it_and_by_no_other(tmp_path: Path) -> None:
    """Relu, Clip and maximum pooling keep NaN, fused behind a convolution or not."""
    writer = NetworkWriter("windows", np.random.default_rng(3))
    conv = writer.node("Conv", "x", writer.weights(16, 16, 3, 3), pads=[1, 1, 1, 1])
    limits = [writer.constant(np.array(v, np.float32)) for v in (0.0, 6.0)]
    outputs = {
        writer.node("Relu", conv): 4,
        writer.node("Clip", conv, *limits): 4,
        writer.node("MaxPool", writer.node("Relu", "x"), kernel_shape=[3, 3], pads=[1, 1, 1, 1]): 4,
        writer.node("MaxPool", "x", kernel_shape=[3, 3], pads=[1, 1, 1, 1]): 4,
    }
    x = np.random.default_rng(4).standard_normal((1, 16, 9, 9)).astype(np.float32)
    x[0, 5, 4, 4] = np.nan
    network = writer.finish({"x": x}, outputs, is_batched=False)
    with compile_network(network, tmp_path) as model:
        ours = run_poisoned(model, {"x": x})
    near = np.zeros((9, 9), bool)
    near[3:6, 3:6] = True
    for name, array in ours.items():
        channels = range(16) if name.startswith(("relu", "clip")) else [5]
        for channel in range(16):
            expected = near if channel in channels else np.zeros_like(near)
            np.testing.assert_array_equal(np.isnan(array[0, channel]), expected, err_msg=f"{name} {channel}")
