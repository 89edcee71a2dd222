"""ONNX operators of structured families against onnxruntime, in forms that the ONNX suite lacks (L1-04)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import plumbline

onnxruntime = pytest.importorskip("onnxruntime")
rng = np.random.default_rng(37)


def floats(*shape: int, scale: float = 1.0) -> np.ndarray:
    return (rng.standard_normal(shape) * scale).astype(np.float32)


def compare(
    folder: Path,
    operator: str,
    inputs: dict[str, np.ndarray],
    weights: dict[str, np.ndarray],
    operands: list[str],
    attributes: dict[str, Any],
    *,
    outputs: int = 1,
    open_axes: dict[str, tuple[int, ...]] | None = None,
    tolerance: float = 2e-5,
) -> None:
    """Run one node through both; `open_axes` makes axes of inputs symbolic."""
    names = [f"y{i}" for i in range(outputs)]
    values = [onnx.ValueInfoProto(name=n) for n in names]
    symbols: dict[str, int] = {}
    described = []
    for name, array in inputs.items():
        shape: list[int | str] = list(array.shape)
        for axis in (open_axes or {}).get(name, ()):
            shape[axis] = f"{name}_{axis}"
            symbols[f"{name}_{axis}"] = array.shape[axis] + 3
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        described.append(helper.make_tensor_value_info(name, kind, shape))
    node = helper.make_node(operator, operands, names, **attributes)
    stored = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph([node], "one", described, values, stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    path = folder / "model.onnx"
    onnx.save(model, path)
    expected = onnxruntime.InferenceSession(str(path)).run(names, inputs)
    with plumbline.load(path, symbols=symbols) as loaded:
        found = loaded.run(inputs)
    for name, reference in zip(names, expected, strict=True):
        np.testing.assert_allclose(found[name], reference, rtol=tolerance, atol=tolerance, err_msg=name)


LAYERS = {"RNN": 1, "GRU": 3, "LSTM": 4}


@pytest.mark.parametrize("operator", list(LAYERS))
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_recurrent_layers_match(tmp_path: Path, operator: str, direction: str) -> None:
    directions, hidden = 2 if direction == "bidirectional" else 1, 24
    width = LAYERS[operator] * hidden
    weights = {
        "w": floats(directions, width, 5, scale=0.2), "r": floats(directions, width, hidden, scale=0.2),
        "b": floats(directions, 2 * width, scale=0.2),
    }  # fmt: skip
    inputs = {"x": floats(7, 3, 5), "n": np.array([7, 2, 4], np.int32), "h": floats(directions, 3, hidden)}
    attributes = {"hidden_size": hidden, "direction": direction}
    operands, states = ["x", "w", "r", "b", "n", "h"], 2
    if operator == "LSTM":
        inputs["c"], states = floats(directions, 3, hidden), 3
        weights["p"] = floats(directions, 3 * hidden, scale=0.2)
        operands += ["c", "p"]
    compare(tmp_path, operator, inputs, weights, operands, attributes, outputs=states)


@pytest.mark.parametrize("hidden", [24, 150])
def test_gru_with_linear_reset_over_open_time_and_batch_matches(tmp_path: Path, hidden: int) -> None:
    weights = {"w": floats(1, 3 * hidden, 5, scale=0.1), "r": floats(1, 3 * hidden, hidden, scale=0.1)}
    attributes = {"hidden_size": hidden, "linear_before_reset": 1}
    axes = {"x": (0, 1)}
    operands = ["x", "w", "r"]
    compare(tmp_path, "GRU", {"x": floats(9, 2, 5)}, weights, operands, attributes, outputs=2, open_axes=axes)


def test_rnn_with_other_activations_matches(tmp_path: Path) -> None:
    weights = {"w": floats(2, 8, 5, scale=0.3), "r": floats(2, 8, 8, scale=0.3)}
    attributes = {
        "hidden_size": 8, "direction": "bidirectional", "activations": ["HardSigmoid", "LeakyRelu"],
        "activation_alpha": [0.3, 0.05], "activation_beta": [0.4],
    }  # fmt: skip
    compare(tmp_path, "RNN", {"x": floats(4, 2, 5)}, weights, ["x", "w", "r"], attributes)


@pytest.mark.parametrize(
    ("shape", "weights", "attributes"),
    [
        ((2, 4, 17), (6, 2, 3), {"group": 2, "dilations": [2], "pads": [1, 2]}),
        ((1, 3, 9, 10), (4, 3, 3, 2), {"auto_pad": "SAME_LOWER", "strides": [2, 3]}),
        ((1, 3, 9, 10), (4, 3, 3, 3), {"auto_pad": "VALID", "strides": [2, 1]}),
        ((1, 2, 5, 6, 7), (4, 1, 3, 3, 2), {"group": 2, "pads": [1, 1, 0, 0, 1, 1], "strides": [1, 2, 1]}),
    ],
)
def test_convolutions_match(
    tmp_path: Path, shape: tuple[int, ...], weights: tuple[int, ...], attributes: dict[str, Any]
) -> None:
    stored = {"w": floats(*weights, scale=0.3), "b": floats(weights[0])}
    compare(tmp_path, "Conv", {"x": floats(*shape)}, stored, ["x", "w", "b"], attributes)
    axes = {"x": (0, *range(2, len(shape)))}
    compare(tmp_path, "Conv", {"x": floats(*shape)}, stored, ["x", "w", "b"], attributes, open_axes=axes)


@pytest.mark.parametrize(
    ("shape", "weights", "attributes"),
    [
        ((1, 4, 9), (4, 3, 4), {"strides": [3], "pads": [1, 2], "output_padding": [1]}),
        ((1, 4, 5, 6), (4, 2, 3, 3), {"strides": [2, 2], "group": 2, "output_shape": [10, 12]}),
        ((1, 4, 5, 6), (4, 2, 3, 3), {"strides": [2, 3], "dilations": [2, 2], "pads": [1, 0, 1, 0]}),
        ((1, 2, 3, 4, 5), (2, 3, 2, 3, 2), {"strides": [2, 1, 2]}),
    ],
)
def test_transposed_convolutions_match(
    tmp_path: Path, shape: tuple[int, ...], weights: tuple[int, ...], attributes: dict[str, Any]
) -> None:
    stored = {"w": floats(*weights, scale=0.3), "b": floats(weights[1] * attributes.get("group", 1))}
    compare(tmp_path, "ConvTranspose", {"x": floats(*shape)}, stored, ["x", "w", "b"], attributes)


@pytest.mark.parametrize("ceil", [0, 1])
@pytest.mark.parametrize("pads", [{"pads": [1, 0, 0, 1]}, {"auto_pad": "SAME_UPPER"}, {"auto_pad": "VALID"}])
def test_pools_match(tmp_path: Path, ceil: int, pads: dict[str, Any]) -> None:
    attributes = {"kernel_shape": [3, 2], "strides": [2, 2], "ceil_mode": ceil, **pads}
    inputs = {"x": floats(2, 3, 9, 12)}
    compare(tmp_path, "MaxPool", inputs, {}, ["x"], {**attributes, "storage_order": 1}, outputs=2)
    compare(tmp_path, "MaxPool", inputs, {}, ["x"], attributes, open_axes={"x": (0, 2, 3)})
    for counted in (0, 1):
        compare(tmp_path, "AveragePool", inputs, {}, ["x"], {**attributes, "count_include_pad": counted})


@pytest.mark.parametrize("turned", [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_gemm_over_open_rows_matches(tmp_path: Path, turned: tuple[int, int]) -> None:
    left = floats(*((20, 7) if turned[0] else (7, 20)))
    right = floats(*((33, 20) if turned[1] else (20, 33)))
    attributes = {"transA": turned[0], "transB": turned[1], "alpha": 0.5, "beta": 2.0}
    axes = {"a": (1 if turned[0] else 0,)}
    weights, operands = {"b": right, "c": floats(33)}, ["a", "b", "c"]
    compare(tmp_path, "Gemm", {"a": left}, weights, operands, attributes, open_axes=axes)
