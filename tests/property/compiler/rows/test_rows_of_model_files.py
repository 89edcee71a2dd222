"""Rows of operators as model files have them: what is proved holds, what mixes is named (L4-62)."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import plumbline
from plumbline.compiler.passes.pipeline import run_passes
from plumbline.compiler.rows import RowProof, prove_rows
from plumbline.product.compose import LoadOptions, read_graph
from plumbline.testing.models import widest_target

ROWS = 4
F, INTEGER = TensorProto.FLOAT, TensorProto.INT64


def w(*shape: int) -> np.ndarray:
    return np.random.default_rng([3, *shape]).standard_normal(shape).astype(np.float32)


def i64(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def model(
    operator: str, shape: tuple[int, ...], weights: tuple[Any, ...] = (), *, kind: int = F, outputs: int = 1,
    front: bool = True, opset: int = 20, static: bool = False, **attributes: Any,
) -> bytes:  # fmt: skip
    """One node over `x [N, *shape]`; weights that are None are absent operands."""
    arrays = {f"w{k}": v for k, v in enumerate(weights) if v is not None}
    names = ["x", *(f"w{k}" if v is not None else "" for k, v in enumerate(weights))]
    results = [f"y{k}" for k in range(outputs)]
    graph = helper.make_graph(
        [helper.make_node(operator, names, results, **attributes)], "rows",
        [helper.make_tensor_value_info("x", kind, (ROWS if static else "N", *shape))],
        [helper.make_empty_tensor_value_info(name) for name in results],
        [numpy_helper.from_array(v, k) for k, v in arrays.items()],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    return made.SerializeToString()


INDEPENDENT = {
    "Gemm": model("Gemm", (6,), (w(6, 3), w(3))),
    "Conv": model("Conv", (3, 6, 6), (w(4, 3, 3, 3),), pads=[1, 1, 1, 1]),
    "ConvTranspose": model("ConvTranspose", (3, 4, 4), (w(3, 2, 2, 2),), strides=[2, 2]),
    "MaxPool": model("MaxPool", (3, 6, 6), kernel_shape=[2, 2]),
    "BatchNormalization": model("BatchNormalization", (3, 4, 4), (w(3), w(3), w(3), abs(w(3)) + 1)),
    "InstanceNormalization": model("InstanceNormalization", (3, 4, 4), (w(3), w(3))),
    "LRN": model("LRN", (5, 4, 4), size=3),
    "Resize": model("Resize", (3, 4, 4), (None, np.float32([1, 1, 2, 2])), mode="linear"),
    "Pad": model("Pad", (3, 4), (i64(0, 1, 2, 0, 0, 1),), mode="reflect"),
    "OneHot": model("OneHot", (3,), (i64(5), np.float32([0, 1])), kind=INTEGER),
    "Flatten": model("Flatten", (3, 4, 2), axis=1),
    "Split": model("Split", (6,), (i64(2, 4),), axis=1, outputs=2),
    "ArgMax": model("ArgMax", (6, 3), axis=1, keepdims=0),
    "ReduceL2": model("ReduceL2", (6, 3), (i64(1, 2),), keepdims=0),
    "QuantizeLinear": model("QuantizeLinear", (6,), (np.float32(0.1), np.uint8(3))),
    "Trilu": model("Trilu", (4, 4)),
    "SpaceToDepth": model("SpaceToDepth", (2, 4, 4), blocksize=2),
    "Tile": model("Tile", (3,), (i64(1, 2),)),
    "LayerNormalization": model("LayerNormalization", (5, 6), (w(6), w(6))),
    "Einsum": model("Einsum", (5, 6), (w(6, 2),), equation="...k,kn->...n"),
    "Squeeze": model("Squeeze", (1, 6), (i64(1),)),
    "Unsqueeze": model("Unsqueeze", (6,), (i64(1),)),
    "LogSoftmax": model("LogSoftmax", (6, 2), axis=-1),
    "DFT": model("DFT", (8, 1), (None, i64(1)), opset=20),
}
MIXED = {
    "training": (model(
        "BatchNormalization", (3, 4, 4), (w(3), w(3), w(3), abs(w(3)) + 1), outputs=3, training_mode=1
    ), "reduce_mean"),
    "Softmax": (model("Softmax", (6,), axis=0), "softmax"),
    "ReduceSum": (model("ReduceSum", (6,), keepdims=1), "reduce_sum"),
    "Transpose": (model("Transpose", (6,), perm=[1, 0]), "y0"),
    "dynamic quantisation": (model("DynamicQuantizeLinear", (6,), outputs=3), "reduce"),
    "Pad": (model("Pad", (3,), (i64(1, 0, 0, 0),)), "pad"),
    "Shape": (model("Size", (3,)), "symbolic_value"),
    "Slice": (model("Slice", (3,), (i64(1), i64(4), i64(0))), "slice"),
}  # fmt: skip


def proof_of(data: bytes, *, bound: bool = True) -> RowProof:
    graph = read_graph(data, LoadOptions(symbols={"N": ROWS} if bound else {}))
    return prove_rows(run_passes(graph, widest_target())[0])


def batch(data: bytes) -> np.ndarray:
    (given,) = onnx.load_from_string(data).graph.input
    shape = (ROWS, *(d.dim_value for d in given.type.tensor_type.shape.dim[1:]))
    rng = np.random.default_rng(9)
    if given.type.tensor_type.elem_type == INTEGER:
        return rng.integers(0, 5, shape)
    return rng.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("name", INDEPENDENT)
def test_rows_of_a_loaded_model_are_apart(name: str) -> None:
    data = INDEPENDENT[name]
    proof = proof_of(data)
    assert proof.symbol == "N", proof.refused_because
    with plumbline.load(data, symbols={"N": ROWS}, use_cache=False) as loaded:
        x = batch(data)
        for i in range(ROWS):
            alone = loaded.run({"x": x[i : i + 1]})
            other = np.full_like(x, np.nan if x.dtype.kind == "f" else 1)
            other[i] = x[i]
            for company in (x, other):
                together = loaded.run({"x": company})
                for output, value in alone.items():
                    assert together[output][i : i + 1].tobytes() == value.tobytes(), (output, i)


@pytest.mark.parametrize("name", MIXED)
def test_operator_that_mixes_rows_is_named(name: str) -> None:
    data, operation = MIXED[name]
    proof = proof_of(data)
    assert not proof.symbol, operation
    assert operation in proof.refused_because


def test_fixed_batch_is_refused_with_what_to_do() -> None:
    proof = proof_of(model("Relu", (3,), static=True), bound=False)
    assert proof.refused_because.startswith("input x has the leading extent 4")
    assert "dynamic_axes={'x': {0: 'batch'}}" in proof.refused_because
