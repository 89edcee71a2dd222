"""ONNX movement, indexing and sampling operators with symbolic dimensions, run from one executable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import plumbline
from plumbline.compiler.importers.onnx import ImportOptions, import_onnx
from plumbline.compiler.importers.onnx.refusals import DataDependentShape, NodeRefused
from plumbline.contracts.dims import symbol

S = symbol("s")


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Sequence[int | str]],
    constants: Mapping[str, Any] | None = None,
    *,
    opset: int = 20,
    output_type: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """A model whose last node makes the output `y`."""
    infos = [helper.make_tensor_value_info(k, TensorProto.FLOAT, v) for k, v in inputs.items()]
    output = helper.make_tensor_value_info("y", output_type, None)
    weights = [numpy_helper.from_array(np.asarray(v), k) for k, v in (constants or {}).items()]
    graph = helper.make_graph(list(nodes), "case", infos, [output], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def shape_of(case: onnx.ModelProto, **symbols: int) -> tuple[Any, ...]:
    graph = import_onnx(case.SerializeToString(), ImportOptions(symbols=symbols))
    return graph.type_of(graph.outputs["y"]).shape


def check(case: onnx.ModelProto, *, sizes: Sequence[int], bound: int = 64) -> None:
    """One executable at several extents of `s` against the ONNX reference."""
    oracle = ReferenceEvaluator(case)
    with plumbline.load(case.SerializeToString(), symbols={"s": bound}, use_cache=False) as loaded:
        for size in sizes:
            shapes = {
                v.name: [d.dim_value or size for d in v.type.tensor_type.shape.dim] for v in case.graph.input
            }
            random = np.random.default_rng(size)
            feeds = {k: random.standard_normal(v).astype(np.float32) for k, v in shapes.items()}
            (expected,) = oracle.run(None, feeds)
            np.testing.assert_allclose(loaded.run(feeds)["y"], np.asarray(expected), rtol=1e-5, atol=1e-5)


def test_shape_gather_concat_reshape_follows_the_extent() -> None:
    """L2-11: heads are split off without a fixed sequence length."""
    nodes = [
        helper.make_node("Shape", ["x"], ["dims"]),
        helper.make_node("Gather", ["dims", "one"], ["length"]),
        helper.make_node("Unsqueeze", ["length", "zero"], ["length1"]),
        helper.make_node("Concat", ["two", "length1", "rest"], ["shape"], axis=0),
        helper.make_node("Reshape", ["x", "shape"], ["heads"]),
        helper.make_node("Transpose", ["heads"], ["y"], perm=[0, 2, 1, 3]),
    ]
    constants = {"one": np.int64(1), "zero": np.array([0]), "two": np.array([2]), "rest": np.array([4, -1])}
    case = model(nodes, {"x": [2, "s", 32]}, constants)
    assert shape_of(case, s=64) == (2, 4, S, 8)
    check(case, sizes=[1, 5, 64])


def test_slice_of_a_table_up_to_the_sequence_has_that_extent() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["dims"], start=1, end=2),
        helper.make_node("Slice", ["table", "zero", "dims", "zero"], ["part"]),
        helper.make_node("Add", ["x", "part"], ["y"]),
    ]
    table = np.random.default_rng(0).standard_normal((64, 3)).astype(np.float32)
    case = model(nodes, {"x": [2, "s", 3]}, {"table": table, "zero": np.array([0])})
    assert shape_of(case, s=64) == (2, S, 3)
    check(case, sizes=[1, 7, 64])


def test_range_over_the_sequence_gathers_positions() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["dims"], start=1, end=2),
        helper.make_node("Squeeze", ["dims"], ["length"]),
        helper.make_node("Range", ["start", "length", "step"], ["positions"]),
        helper.make_node("Gather", ["table", "positions"], ["y"]),
    ]
    table = np.random.default_rng(0).standard_normal((64, 3)).astype(np.float32)
    case = model(nodes, {"x": [2, "s"]}, {"table": table, "start": np.int64(0), "step": np.int64(1)})
    assert shape_of(case, s=64) == (S, 3)
    check(case, sizes=[1, 7, 64])


def test_split_concat_pad_and_expand_take_symbolic_extents() -> None:
    nodes = [
        helper.make_node("Split", ["x"], ["a", "b"], axis=2, num_outputs=2),
        helper.make_node("Neg", ["a"], ["minus"]),
        helper.make_node("Concat", ["minus", "b", "x"], ["joined"], axis=1),
        helper.make_node("Pad", ["joined", "pads"], ["padded"], mode="edge"),
        helper.make_node("Shape", ["padded"], ["dims"]),
        helper.make_node("Concat", ["three", "dims"], ["wanted"], axis=0),
        helper.make_node("Expand", ["padded", "wanted"], ["y"]),
    ]
    nodes[2] = helper.make_node("Concat", ["minus", "b"], ["joined"], axis=1)
    case = model(nodes, {"x": [2, "s", 6]}, {"pads": np.array([0, 1, 0, 0, 2, 3]), "three": np.array([3])})
    assert shape_of(case, s=64) == (3, 2, 2 * S + 3, 6)
    check(case, sizes=[1, 9])


def test_resize_of_a_symbolic_image_doubles_it() -> None:
    node = helper.make_node(
        "Resize", ["x", "", "scales"], ["y"], mode="linear", coordinate_transformation_mode="half_pixel"
    )
    case = model([node], {"x": [1, 2, "s", 5]}, {"scales": np.array([1, 1, 2, 1.5], np.float32)})
    assert shape_of(case, s=64) == (1, 2, 2 * S, 7)
    check(case, sizes=[1, 6, 17])


def test_trilu_and_scatter_run_beside_each_other() -> None:
    nodes = [
        helper.make_node("Trilu", ["x", "k"], ["low"], upper=0),
        helper.make_node("ScatterND", ["low", "where", "line"], ["y"]),
    ]
    constants = {"k": np.int64(1), "where": np.array([[2]]), "line": np.ones((1, 4), np.float32)}
    check(model(nodes, {"x": ["s", 4]}, constants), sizes=[3, 8])


def test_reshape_to_run_time_values_is_refused_by_name() -> None:
    cast = helper.make_node("Cast", ["x"], ["shape"], to=TensorProto.INT64)
    case = model([cast, helper.make_node("Reshape", ["x", "shape"], ["y"], name="late")], {"x": [2]})
    with pytest.raises(DataDependentShape, match="late"):
        import_onnx(case.SerializeToString())


@pytest.mark.parametrize(
    ("operator", "constants", "attributes"),
    [
        ("Reshape", {"c": np.array([-1, -1])}, {}),
        ("Reshape", {"c": np.array([7])}, {}),
        ("Transpose", {}, {"perm": [0, 2]}),
        ("Concat", {"c": np.ones((3, 3), np.float32)}, {"axis": 0}),
        ("Split", {"c": np.array([1, 1])}, {"axis": 1}),
        ("Tile", {"c": np.array([-1, 1])}, {}),
        ("Pad", {"c": np.array([0, -6, 0, 0])}, {}),
        ("Gather", {"c": np.array([0])}, {"axis": 2}),
        ("DepthToSpace", {}, {"blocksize": 2}),
        ("Resize", {"r": np.array([], np.float32), "c": np.array([1, -1], np.float32)}, {}),
    ],
)
def test_impossible_attributes_are_refused_with_the_node(
    operator: str, constants: dict[str, Any], attributes: dict[str, Any]
) -> None:
    """L1-03: a node that cannot be compiled names itself."""
    node = helper.make_node(operator, ["x", *constants], ["y"], name="bad", **attributes)
    with pytest.raises(NodeRefused, match="bad"):
        import_onnx(model([node], {"x": [2, 5]}, constants).SerializeToString())
