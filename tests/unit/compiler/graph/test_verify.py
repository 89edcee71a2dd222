"""Each rule of the verifier refuses a graph that breaks it, by place and reason (L2-13)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from plumbline.compiler.graph.builder import GraphBuilder
from plumbline.compiler.graph.graph import ExecutionGraph, TensorEdge, TensorID
from plumbline.compiler.graph.verify import InvalidGraph, verify
from plumbline.contracts.dims import symbol
from plumbline.contracts.tensors import DType, TensorType
from plumbline.kernels.contract import ShapeRefused
from plumbline.kernels.registry import OperationUnknown


def graph() -> ExecutionGraph:
    builder = GraphBuilder("g", {"n": 4})
    x = builder.input("x", TensorType(DType.FLOAT32, (symbol("n"), 2)))
    w = builder.constant(np.ones((2,), np.float32), "w")
    y = builder.add1("mul", [x, w], name="scaled")
    builder.output("y", builder.add1("relu", [y], name="clipped"))
    return builder.build()


def _nodes(change: Callable[[list[Any]], list[Any]]) -> Callable[[ExecutionGraph], ExecutionGraph]:
    return lambda g: replace(g, nodes=tuple(change(list(g.nodes))))


def _retyped(g: ExecutionGraph, tensor: str, type_: TensorType) -> ExecutionGraph:
    name = TensorID(tensor)
    return replace(g, tensors={**g.tensors, name: TensorEdge(id=name, type=type_)})


BROKEN: dict[str, tuple[Callable[[ExecutionGraph], ExecutionGraph], str]] = {
    "out of order": (_nodes(lambda n: n[::-1]), "out of order"),
    "operand of nobody": (_nodes(lambda n: [replace(n[0], inputs=("ghost", "w")), n[1]]), "never produced"),
    "name twice": (_nodes(lambda n: [n[0], replace(n[1], name=n[0].name)]), "used twice"),
    "result twice": (_nodes(lambda n: [n[0], replace(n[1], outputs=n[0].outputs)]), "defined twice"),
    "too many results": (
        _nodes(lambda n: [n[0], replace(n[1], outputs=(*n[1].outputs, "extra"))]),
        "number of",
    ),
    "output of nobody": (lambda g: replace(g, outputs={"y": TensorID("ghost")}), "never produced"),
    "tensor of nobody": (
        lambda g: _retyped(g, "ghost", TensorType(DType.FLOAT32, (1,))),
        "nothing produces it",
    ),
    "wrong type": (lambda g: _retyped(g, "scaled", TensorType(DType.FLOAT64, (symbol("n"), 2))), "stated as"),
    "wrong shape": (
        lambda g: _retyped(g, "scaled", TensorType(DType.FLOAT32, (symbol("n"), 3))),
        "stated as",
    ),
    "symbol without bound": (lambda g: replace(g, symbols={}), "without bound"),
    "two sources": (lambda g: replace(g, inputs={**g.inputs, "again": g.inputs["x"]}), "two sources"),
    "source without type": (lambda g: replace(g, inputs={"x": TensorID("ghost")}), "has no type"),
    "stored under another name": (
        lambda g: replace(g, tensors={**g.tensors, TensorID("w"): g.tensors[TensorID("x")]}),
        "is stored as",
    ),
}


@pytest.mark.parametrize("rule", BROKEN)
def test_broken_rule_is_refused_by_place_and_reason(rule: str) -> None:
    change, reason = BROKEN[rule]
    with pytest.raises(InvalidGraph, match=reason) as refused:
        verify(change(graph()))
    assert refused.value.place


def test_sound_graph_passes() -> None:
    verify(graph())


def test_operation_that_does_not_exist_is_refused() -> None:
    with pytest.raises(OperationUnknown):
        verify(replace(graph(), nodes=(replace(graph().nodes[0], operation="mystery"),)))


def test_operands_that_do_not_fit_the_operation_are_refused_by_its_rule() -> None:
    builder = GraphBuilder("g")
    x = builder.input("x", TensorType(DType.FLOAT32, (2, 3)))
    y = builder.input("y", TensorType(DType.FLOAT32, (4, 5)))
    with pytest.raises(ShapeRefused):
        builder.add1("add", [x, y])
