"""Control flow that is known at build is inlined or unrolled; the rest is refused by name (L2-23)."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper
from onnx_models import BOOL, FLOAT, INT64, body, compute, model, value

from plumbline.compiler.importers.limits import ImportLimitError, ImportLimits
from plumbline.compiler.importers.onnx import ImportOptions, control_flow, import_onnx
from plumbline.compiler.importers.onnx.refusals import DataDependentShape, NodeRefused

X = np.arange(6, dtype=np.float32).reshape(2, 3) - 2


def reference(data: bytes, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    return list(onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"]).run(None, inputs))


def branch_model() -> bytes:
    then = body([helper.make_node("Relu", ["x"], ["t"])], [], ["t"])
    other = body([helper.make_node("Mul", ["x", "two"], ["e"])], [], ["e"], two=np.float32(2))
    return model(
        [helper.make_node("If", ["c"], ["y"], name="choice", then_branch=then, else_branch=other)],
        [value("x", FLOAT, [2, 3]), value("c", BOOL, [])],
        [value("y", FLOAT, None)],
    )


@pytest.mark.parametrize("condition", [True, False])
def test_branch_with_known_condition_is_inlined_and_sees_outer_values(condition: bool) -> None:
    found = compute(branch_model(), {"x": X}, c=np.array(condition))["y"]
    np.testing.assert_array_equal(found, np.maximum(X, 0) if condition else X * 2)


def test_branch_with_unknown_condition_is_refused_by_name() -> None:
    with pytest.raises(DataDependentShape, match=r"'choice'.*If .*opset 17.*condition.*constants"):
        compute(branch_model(), {"x": X, "c": np.array(True)})


def loop_model(trips: Any = 4, *, condition: list[onnx.NodeProto] | None = None, cond: str = "go") -> bytes:
    """carried x -> x + x*i each time; scan output of every x."""
    inner = body(
        [
            helper.make_node("Cast", ["i"], ["fi"], to=FLOAT),
            helper.make_node("Mul", ["acc", "fi"], ["scaled"]),
            helper.make_node("Add", ["acc", "scaled"], ["next"]),
            helper.make_node("Identity", ["next"], ["seen"]),
            *(condition or [helper.make_node("Identity", ["c_in"], ["c_out"])]),
        ],
        [value("i", INT64), value("c_in", BOOL), value("acc", FLOAT, None)],
        ["c_out", "next", "seen"],
        limit=np.int64(1),
    )
    constants: dict[str, Any] = {"go": np.array(True)}
    if trips is not None:
        constants["trips"] = np.int64(trips)
    return model(
        [
            helper.make_node(
                "Loop", ["" if trips is None else "trips", cond, "x"], ["y", "rows"], name="again", body=inner
            )
        ],
        [value("x", FLOAT, [2, 3])],
        [value("y", FLOAT, None), value("rows", FLOAT, None)],
        constants,
    )


@pytest.mark.parametrize("trips", [1, 4])
def test_loop_with_known_trip_count_is_unrolled(trips: int) -> None:
    found = compute(loop_model(trips), {"x": X})
    y, rows = reference(loop_model(trips), {"x": X})
    np.testing.assert_array_equal(found["y"], y)
    np.testing.assert_array_equal(found["rows"], rows)


def test_loop_without_iterations_returns_its_start_and_no_rows() -> None:
    found = compute(loop_model(0), {"x": X})
    np.testing.assert_array_equal(found["y"], X)
    assert found["rows"].shape == (0, 2, 3)


def test_loop_ends_when_its_condition_computed_at_build_fails() -> None:
    """The condition i < 1 depends on the iteration alone, so it is known."""
    condition = [helper.make_node("Less", ["i", "limit"], ["c_out"])]
    for trips in (9, None):
        data = loop_model(trips, condition=condition)
        np.testing.assert_array_equal(compute(data, {"x": X})["rows"], reference(data, {"x": X})[1])


def test_loop_whose_condition_needs_data_is_refused() -> None:
    condition = [
        helper.make_node("ReduceSum", ["next"], ["total"], keepdims=0),
        helper.make_node("Cast", ["total"], ["c_out"], to=BOOL),
    ]
    with pytest.raises(DataDependentShape, match=r"'again'.*Loop.*condition of a loop"):
        compute(loop_model(5, condition=condition), {"x": X})


def test_loop_without_end_is_refused_at_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_flow, "MAX_ITERATIONS", 50)
    with pytest.raises(NodeRefused, match="more than 50 times"):
        compute(loop_model(None, cond=""), {"x": X})


def test_trip_count_that_is_a_symbol_is_refused_by_its_name() -> None:
    inner = body(
        [helper.make_node("Identity", ["c"], ["c2"]), helper.make_node("Relu", ["a"], ["b"])],
        [value("i", INT64), value("c", BOOL), value("a", FLOAT, None)],
        ["c2", "b"],
    )
    data = model(
        [
            helper.make_node("Shape", ["x"], ["s"]),
            helper.make_node("Gather", ["s", "zero"], ["n"]),
            helper.make_node("Loop", ["n", "", "x"], ["y"], name="rows", body=inner),
        ],
        [value("x", FLOAT, ["batch", 3])],
        [value("y", FLOAT, None)],
        {"zero": np.int64(0)},
    )
    with pytest.raises(DataDependentShape, match=r"'rows'.*batch"):
        compute(data, {"x": X}, {"batch": 4})


def scan_model(opset: int = 17, **attributes: Any) -> bytes:
    """Running sum with every partial sum."""
    inner = body(
        [helper.make_node("Add", ["s", "item"], ["s2"]), helper.make_node("Identity", ["s2"], ["row"])],
        [value("s", FLOAT, [3]), value("item", FLOAT, [3])],
        ["s2", "row"],
    )
    return model(
        [
            helper.make_node(
                "Scan",
                ["start", "x"],
                ["last", "rows"],
                name="sums",
                num_scan_inputs=1,
                body=inner,
                **attributes,
            )
        ],
        [value("start", FLOAT, [3]), value("x", FLOAT, None if attributes else [4, 3])],
        [value("last", FLOAT, None), value("rows", FLOAT, None)],
        opset=opset,
    )


@pytest.mark.parametrize("opset", [9, 11, 17])
def test_scan_over_a_static_axis_is_unrolled(opset: int) -> None:
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    found = compute(scan_model(opset), {"start": np.ones(3, np.float32), "x": x})
    np.testing.assert_array_equal(found["rows"], np.cumsum(x, 0) + 1)
    np.testing.assert_array_equal(found["last"], x.sum(0) + 1)


def test_scan_axes_and_directions_are_followed() -> None:
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    data = scan_model(
        scan_input_axes=[1], scan_output_axes=[-1], scan_input_directions=[1], scan_output_directions=[1]
    )
    wrapped = onnx.load_from_string(data)
    wrapped.graph.input[1].CopyFrom(value("x", FLOAT, [3, 4]))
    found = compute(wrapped.SerializeToString(), {"start": np.zeros(3, np.float32), "x": x})
    np.testing.assert_array_equal(found["rows"], np.cumsum(x[:, ::-1], 1)[:, ::-1])


def test_scan_over_a_symbolic_axis_is_refused_by_its_name() -> None:
    data = onnx.load_from_string(scan_model())
    data.graph.input[1].CopyFrom(value("x", FLOAT, ["steps", 3]))
    with pytest.raises(DataDependentShape, match=r"'sums'.*steps"):
        compute(data.SerializeToString(), {}, {"steps": 9})


def test_large_constant_of_a_body_is_stored_once() -> None:
    """Unrolling repeats operators, not weights."""
    weights = np.ones((40, 40), np.float32)
    inner = body(
        [helper.make_node("Identity", ["c"], ["c2"]), helper.make_node("MatMul", ["a", "w"], ["b"])],
        [value("i", INT64), value("c", BOOL), value("a", FLOAT, None)],
        ["c2", "b"],
        w=weights,
    )
    data = model(
        [helper.make_node("Loop", ["n", "", "x"], ["y"], body=inner)],
        [value("x", FLOAT, [2, 40])], [value("y", FLOAT, None)], {"n": np.int64(3)},
    )  # fmt: skip
    graph = import_onnx(data)
    assert len(graph.nodes) == 3
    assert [graph.type_of(t).shape for t in graph.constants] == [(40, 40)]


def function(name: str, nodes: list[onnx.NodeProto], attributes: tuple[str, ...] = ()) -> onnx.FunctionProto:
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]
    return helper.make_function("mine", name, ["a"], ["b"], nodes, imports, attributes)


def test_functions_of_a_model_are_inlined_through_levels_with_their_attributes() -> None:
    alpha = helper.make_node("LeakyRelu", ["a"], ["b"])
    alpha.attribute.append(
        onnx.AttributeProto(name="alpha", type=onnx.AttributeProto.FLOAT, ref_attr_name="slope")
    )
    inner = helper.make_node("Leaky", ["a"], ["m"], domain="mine")
    inner.attribute.append(
        onnx.AttributeProto(name="slope", type=onnx.AttributeProto.FLOAT, ref_attr_name="slope")
    )
    data = model(
        [helper.make_node("Twice", ["x"], ["y"], domain="mine", slope=0.5)],
        [value("x", FLOAT, [2, 3])],
        [value("y", FLOAT, None)],
        functions=[
            function("Leaky", [alpha], ("slope",)),
            function("Twice", [inner, helper.make_node("Leaky", ["m"], ["b"], domain="mine")], ("slope",)),
        ],
        domains={"mine": 1},
    )
    found = compute(data, {"x": X})["y"]
    once = np.where(X < 0, X * 0.5, X)
    np.testing.assert_allclose(found, np.where(once < 0, once * 0.01, once), rtol=1e-6)


def test_function_that_calls_itself_is_refused() -> None:
    data = model(
        [helper.make_node("F", ["x"], ["y"], domain="mine")],
        [value("x", FLOAT, [2])],
        [value("y", FLOAT, None)],
        functions=[function("F", [helper.make_node("F", ["a"], ["b"], domain="mine")])],
        domains={"mine": 1},
    )
    from plumbline.errors import PlumblineError

    with pytest.raises(PlumblineError):
        compute(data, {"x": X})


def test_bodies_that_multiply_are_refused_at_the_limit_of_nodes() -> None:
    """X-48: ten levels of functions that call the next one ten times, in a file of two kilobytes."""
    functions = []
    for level in range(10):
        callee = f"F{level + 1}" if level < 9 else "Relu"
        domain = "mine" if level < 9 else ""
        names = ["a", *(f"t{i}" for i in range(9)), "b"]
        calls = [helper.make_node(callee, [x], [y], domain=domain) for x, y in pairwise(names)]
        functions.append(function(f"F{level}", calls))
    data = model(
        [helper.make_node("F0", ["x"], ["y"], domain="mine")],
        [value("x", FLOAT, [2])],
        [value("y", FLOAT, None)],
        functions=functions,
        domains={"mine": 1},
    )
    with pytest.raises(ImportLimitError, match="inlined"):
        import_onnx(data, ImportOptions(limits=ImportLimits(nodes=500)))
