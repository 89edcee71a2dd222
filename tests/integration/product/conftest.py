"""A small model file, and the command to run on it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

sys.path.insert(0, str(Path(__file__).parent))

from plumb_process import Plumb


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """y = tanh(x w + b) + constant, with a symbolic batch; enough steps to fold, alias and order."""
    rng = np.random.default_rng(5)
    weights = [
        numpy_helper.from_array(rng.standard_normal((16, 8)).astype(np.float32), "w"),
        numpy_helper.from_array(rng.standard_normal(8).astype(np.float32), "b"),
        numpy_helper.from_array(np.array([1.0, 2.0], np.float32), "k"),
        numpy_helper.from_array(np.array(2.0, np.float32), "two"),
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"], name="product"),
        helper.make_node("Add", ["m", "b"], ["a"], name="bias"),
        helper.make_node("Tanh", ["a"], ["t"], name="squash"),
        helper.make_node("Mul", ["k", "two"], ["doubled"], name="fixed"),
        helper.make_node("ReduceSum", ["doubled"], ["six"], name="total", keepdims=0),
        helper.make_node("Add", ["t", "six"], ["y"], name="shift"),
    ]
    graph = helper.make_graph(
        nodes,
        "little",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 8])],
        weights,
    )
    path = tmp_path_factory.mktemp("model") / "little.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture(scope="session")
def expected() -> Callable[[np.ndarray, Path], np.ndarray]:
    """What the model computes, in float64."""

    def compute(x: np.ndarray, path: Path) -> np.ndarray:
        w = {t.name: numpy_helper.to_array(t).astype(np.float64) for t in onnx.load(path).graph.initializer}
        return np.tanh(x @ w["w"] + w["b"]) + (w["k"] * w["two"]).sum()

    return compute


@pytest.fixture
def plumb(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Plumb:
    """The command in an empty folder, with one cache for the session."""
    return Plumb(tmp_path, tmp_path_factory.getbasetemp() / "plumb-cache")
