"""Operators of weights are computed at build, and weights are still not read before the budget is checked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import plumbline
from plumbline.compiler.importers.onnx import constants
from plumbline.compiler.planning.memory import MemoryBudgetError


def write_model(folder: Path, operators: Sequence[onnx.NodeProto], weights: np.ndarray) -> Path:
    """`y = x @ v`, where `v` comes from weights `w` by operators."""
    nodes = [*operators, helper.make_node("MatMul", ["x", "v"], ["y"])]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 64])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "folded", [x], [y], [numpy_helper.from_array(weights, "w")])
    path = folder / "folded.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


def transposed(folder: Path) -> tuple[Path, np.ndarray]:
    weights = np.random.default_rng(2).standard_normal((48, 64)).astype(np.float32)
    operators = [
        helper.make_node("Transpose", ["w"], ["t"], perm=[1, 0]),
        helper.make_node("Neg", ["t"], ["v"]),
    ]
    return write_model(folder, operators, weights), -weights.T


def test_large_weights_that_are_folded_give_the_right_result_without_a_step(tmp_path: Path) -> None:
    path, expected = transposed(tmp_path)
    x = np.random.default_rng(3).standard_normal((2, 64)).astype(np.float32)
    with plumbline.load(path) as model:
        assert model.manifest.step_operations == ("packed_gemm",)
        np.testing.assert_allclose(model.run({"x": x})["y"], x @ expected, rtol=1e-5, atol=1e-5)


def test_results_of_one_operator_of_weights_are_told_apart(tmp_path: Path) -> None:
    weights = np.random.default_rng(4).standard_normal((64, 96)).astype(np.float32)
    operators = [
        helper.make_node("Split", ["w"], ["a", "b"], axis=1),
        helper.make_node("Sub", ["a", "b"], ["v"]),
    ]
    x = np.random.default_rng(5).standard_normal((2, 64)).astype(np.float32)
    with plumbline.load(write_model(tmp_path, operators, weights)) as model:
        expected = x @ (weights[:, :48] - weights[:, 48:])
        np.testing.assert_allclose(model.run({"x": x})["y"], expected, rtol=1e-5, atol=1e-5)


def test_budget_is_refused_before_weights_are_folded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """L2-21: a plan above the budget reads no weight, whatever the graph does with it."""

    def read(self: object) -> np.ndarray:
        raise AssertionError("a weight was read before the budget was checked")

    monkeypatch.setattr(constants.StoredTensor, "read", read)
    path, _ = transposed(tmp_path)
    with pytest.raises(MemoryBudgetError):
        plumbline.load(path, memory_budget=1000)


def test_folding_leaves_bfloat16_to_native_code(tmp_path: Path) -> None:
    """References hold bfloat16 as numbers; stored again they would lose their element type."""
    a = helper.make_tensor("a", TensorProto.BFLOAT16, [3], [1.0, 2.0, -3.0])
    graph = helper.make_graph(
        [helper.make_node("Neg", ["a"], ["b"]), helper.make_node("Add", ["x", "b"], ["y"])],
        "half",
        [helper.make_tensor_value_info("x", TensorProto.BFLOAT16, [3])],
        [helper.make_tensor_value_info("y", TensorProto.BFLOAT16, [3])],
        [a],
    )
    path = tmp_path / "half.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    with plumbline.load(path) as model:
        y = model.run({"x": np.zeros(3, np.uint16)})["y"]
    assert (y.astype(np.uint32) << 16).view(np.float32).tolist() == [-1.0, -2.0, 3.0]
