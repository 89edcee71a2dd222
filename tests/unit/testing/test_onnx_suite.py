"""The suite runner tells passed, folded, refused, wrong and crashed apart."""

from __future__ import annotations

import operator
import os
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from plumbline.testing.onnx_suite import Outcome, SuiteCase, load_cases
from plumbline.testing.onnx_suite.batches import run_cases
from plumbline.testing.onnx_suite.bindings import bindable_inputs
from plumbline.testing.onnx_suite.judge import compare, rounding_of

X = np.array([[-1.5, 0.0, 2.0]], np.float32)


def model_of(*nodes: Any, inputs: dict[str, Any], output: Any, opset: int = 17) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "case",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info("y", *output)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


def case_of(name: str, model: onnx.ModelProto, given: Any, expected: Any) -> SuiteCase:
    return SuiteCase(
        name=name, kind="node", operator=model.graph.node[0].op_type, model=model.SerializeToString(),
        data_sets=((given, expected),), bound=bindable_inputs(model), rtol=1e-3, atol=1e-7,
    )  # fmt: skip


def relu() -> SuiteCase:
    model = model_of(
        helper.make_node("Relu", ["x"], ["y"]),
        inputs={"x": (TensorProto.FLOAT, [1, 3])}, output=(TensorProto.FLOAT, [1, 3]),
    )  # fmt: skip
    return case_of("relu", model, {"x": X}, {"y": np.maximum(X, 0)})


def test_every_outcome_is_recognised_and_a_dead_process_costs_one_case() -> None:
    """One child process dies of a signal; the cases after it still run."""
    good = relu()
    wrong = replace(good, name="wrong", data_sets=(({"x": X}, {"y": X}),))
    dead: Any = replace(good, name="dead", data_sets=map(operator.call, [os.abort]))  # type: ignore[arg-type]
    broken: Any = replace(good, name="broken", data_sets=map(operator.call, [{}.popitem]))  # type: ignore[arg-type]
    unknown = case_of(
        "unknown",
        model_of(
            helper.make_node("Mystery", ["x"], ["y"]),
            inputs={"x": (TensorProto.FLOAT, [1, 3])}, output=(TensorProto.FLOAT, [1, 3]),
        ),
        {"x": X}, {"y": X},
    )  # fmt: skip
    folded = case_of(
        "folded",
        model_of(
            helper.make_node("Shape", ["x"], ["y"]),
            inputs={"x": (TensorProto.FLOAT, [1, 3])}, output=(TensorProto.INT64, [2]),
        ),
        {"x": X}, {"y": np.array([1, 3])},
    )  # fmt: skip
    results = run_cases([good, wrong, dead, broken, unknown, folded], jobs=1)
    assert [r.outcome for r in results] == [
        Outcome.PASSED, Outcome.WRONG, Outcome.CRASHED, Outcome.CRASHED, Outcome.REFUSED, Outcome.FOLDED,
    ]  # fmt: skip
    assert "-6" in results[2].detail
    assert "KeyError" in results[3].detail
    assert results[4].code == "validation.onnx.operator"


def test_data_is_never_bound_even_where_it_also_decides_a_shape() -> None:
    """An input that feeds a shape and data stays a run-time input."""
    both = model_of(
        helper.make_node("Expand", ["x", "s"], ["e"]),
        helper.make_node("Cast", ["s"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["e", "f"], ["y"]),
        inputs={"x": (TensorProto.FLOAT, [1, 2]), "s": (TensorProto.INT64, [2])},
        output=(TensorProto.FLOAT, [3, 2]),
    )
    assert bindable_inputs(both) == frozenset()
    del both.graph.node[1:]
    assert bindable_inputs(both) == {"s"}


def test_all_dense_node_cases_are_loaded_and_the_rest_is_counted_by_reason() -> None:
    cases, excluded = load_cases(["node"])
    if onnx.__version__.startswith("1.23"):
        assert len(cases) == 1638
        assert sum(excluded.values()) == 1884 - 1638
    assert {"string", "sequence", "optional", "bfloat16"} <= excluded.keys()
    assert all(case.data_sets and case.data_sets[0][1] for case in cases)


def test_expanded_case_binds_what_its_operator_may_bind() -> None:
    cases, _ = load_cases(["node"], names=["^test_center_crop_pad_crop"])
    assert {c.operator for c in cases} == {"CenterCropPad"}
    assert all(c.bound == {"shape"} for c in cases)


def test_rounding_allows_one_place_of_the_largest_element_and_nothing_more() -> None:
    reference = np.array([8.0, 0.0], np.float32)
    step = float(np.finfo(np.float32).eps) * 8
    assert rounding_of(reference) == pytest.approx(step)
    near, far = np.array([8.0, step], np.float32), np.array([8.0, 3 * step], np.float32)
    assert compare({"y": near}, {"y": reference}, 1e-3, 1e-7)
    assert not compare({"y": near}, {"y": reference}, 1e-3, 1e-7, rounding=True)
    assert compare({"y": far}, {"y": reference}, 1e-3, 1e-7, rounding=True)
    assert rounding_of(np.array([3])) == 0.0
