"""PRelu until opset 6 has a slope per channel; from opset 7 on slopes broadcast like any operand."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from plumbline.compiler.importers.onnx.refusals import NodeRefused
from plumbline.product.compose import load

X = np.random.default_rng(5).normal(size=(2, 3, 4, 3)).astype(np.float32)
SLOPES = np.array([0.5, -2.0, 0.25], np.float32)


def prelu(x: np.ndarray, slope: np.ndarray, opset: int) -> np.ndarray:
    node = helper.make_node("PRelu", ["x", "s"], ["y"])
    graph = helper.make_graph(
        [node], "prelu",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, x.shape)],
        [numpy_helper.from_array(slope, "s")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    return load(onnx.ModelProto.SerializeToString(model), use_cache=False).run({"x": x})["y"]


@pytest.mark.parametrize("rank", [2, 3, 4])
def test_slopes_of_opset_6_belong_to_channels_even_where_the_last_axis_fits_too(rank: int) -> None:
    x = X[(..., *(0,) * (4 - rank))]
    slopes = SLOPES.reshape(3, *(1,) * (rank - 2))
    np.testing.assert_array_equal(prelu(x, SLOPES, 6), np.where(x < 0, x * slopes, x))


def test_single_slope_of_opset_6_holds_for_all_channels() -> None:
    np.testing.assert_array_equal(prelu(X, SLOPES[:1], 6), np.where(X < 0, X * SLOPES[0], X))


def test_slopes_of_opset_7_broadcast_from_the_last_axis() -> None:
    np.testing.assert_array_equal(prelu(X, SLOPES, 7), np.where(X < 0, X * SLOPES, X))
    with pytest.raises(NodeRefused):
        prelu(X, np.ones(2, np.float32), 7)
