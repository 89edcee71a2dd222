"""`ExecutionGraph` cannot be changed, and its order depends on names alone."""

from __future__ import annotations

import dataclasses
import itertools
import random

import numpy as np
import pytest

from plumbline.compiler.graph.builder import CyclicGraph, GraphBuilder, sort_nodes
from plumbline.compiler.graph.graph import ExecutionGraph, OperatorNode, TensorID, freeze_attributes
from plumbline.contracts.dims import symbol
from plumbline.contracts.tensors import DType, TensorType


def diamond(order: tuple[int, ...] = (0, 1)) -> ExecutionGraph:
    """x -> (relu, neg) -> add; the two middle operators are added in the given order."""
    builder = GraphBuilder("diamond", {"n": 8})
    x = builder.input("x", TensorType(DType.FLOAT32, (symbol("n"), 3)))
    made = {}
    for position in order:
        made[position] = builder.add1(("relu", "neg")[position], [x], name=("a", "b")[position])
    builder.output("y", builder.add1("add", [made[0], made[1]], name="sum"))
    return builder.build()


def test_graph_and_its_parts_cannot_be_changed() -> None:
    """L2-11, L2-12: frozen objects, read-only mappings, tuples."""
    graph = diamond()
    with pytest.raises(dataclasses.FrozenInstanceError):
        graph.name = "other"  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        graph.nodes[0].operation = "exp"  # type: ignore[misc]
    for mapping in (graph.tensors, graph.inputs, graph.outputs, graph.constants, graph.symbols, graph.states):
        with pytest.raises(TypeError):
            mapping["z"] = None  # type: ignore[index]
    with pytest.raises(TypeError):
        graph.nodes[0].attributes["z"] = 1  # type: ignore[index]
    assert isinstance(graph.operators(), tuple)


def test_later_changes_of_the_builder_do_not_reach_a_built_graph() -> None:
    builder = GraphBuilder("g")
    x = builder.input("x", TensorType(DType.FLOAT32, (2,)))
    y = builder.add1("relu", [x])
    builder.output("y", y)
    graph = builder.build()
    before = graph.digest
    builder.output("z", builder.add1("neg", [y]))
    assert graph.outputs.keys() == {"y"}
    assert graph.digest == before


def test_order_puts_producers_first_and_names_their_neighbours() -> None:
    graph = diamond()
    assert graph.topological_order() == (0, 1, 2)
    position = {node.name: i for i, node in enumerate(graph.operators())}
    for node in graph.operators():
        for tensor in node.inputs:
            if tensor in graph.producers:
                assert position[graph.producers[tensor].name] < position[node.name]
    assert [n.operation for n in graph.consumers[graph.inputs["x"]]] == ["relu", "neg"]


def test_order_of_insertion_changes_neither_order_nor_hash() -> None:
    """L2-15: ties are broken by name."""
    one, other = diamond((0, 1)), diamond((1, 0))
    assert [n.name for n in one.nodes] == [n.name for n in other.nodes]
    assert one.digest == other.digest


def _node(name: str, *inputs: str) -> OperatorNode:
    return OperatorNode(
        name=name,
        operation="add",
        inputs=tuple(TensorID(i) for i in inputs),
        outputs=(TensorID(f"{name}.out"),),
    )


def test_every_shuffle_of_the_nodes_sorts_to_the_same_order() -> None:
    nodes = [_node(f"n{i}", *(f"n{j}.out" for j in range(i) if (i * j) % 3 == 1)) for i in range(12)]
    expected = sort_nodes(nodes)
    rng = random.Random(7)
    for _ in range(100):
        shuffled = rng.sample(nodes, len(nodes))
        assert sort_nodes(shuffled) == expected


def test_names_with_numbers_sort_as_numbers() -> None:
    names = [n.name for n in sort_nodes([_node("op.10"), _node("op.9"), _node("op.2")])]
    assert names == ["op.2", "op.9", "op.10"]


def test_circle_is_refused_naming_its_operators() -> None:
    with pytest.raises(CyclicGraph, match=r"a, b"):
        sort_nodes([_node("a", "b.out"), _node("b", "a.out"), _node("c")])


def test_a_hundred_rebuilds_have_one_hash() -> None:
    assert len({diamond().digest for _ in range(100)}) == 1


def test_hash_sees_operation_attribute_bound_constant_and_type() -> None:
    """Every change that changes results changes the hash."""

    def build(
        operation: str = "relu", perm: tuple[int, ...] = (1, 0), bound: int = 8, weight: float = 1.0
    ) -> str:
        builder = GraphBuilder("g", {"n": bound})
        x = builder.input("x", TensorType(DType.FLOAT32, (symbol("n"), 3)))
        y = builder.add1(operation, [builder.add1("transpose", [x], {"perm": perm})])
        constant = builder.constant(np.full((100, 1, 1), weight, np.float32))
        builder.output("y", builder.add1("mul", [y, constant]))
        return builder.build().digest

    digests = [build(), build("neg"), build(perm=(0, 1)), build(bound=9), build(weight=2.0)]
    assert all(a != b for a, b in itertools.combinations(digests, 2))


def test_attributes_are_frozen_in_name_order() -> None:
    frozen = freeze_attributes({"b": [1, [2]], "a": 3})
    assert list(frozen) == ["a", "b"]
    assert frozen["b"] == (1, (2,))


def test_unused_operators_are_dropped_and_unused_inputs_stay() -> None:
    builder = GraphBuilder("g")
    x = builder.input("x", TensorType(DType.FLOAT32, (2,)))
    builder.input("ignored", TensorType(DType.FLOAT32, (2,)))
    builder.add1("exp", [x])
    builder.output("y", builder.add1("relu", [x]))
    graph = builder.build()
    assert [n.operation for n in graph.nodes] == ["relu"]
    assert set(graph.inputs) == {"x", "ignored"}
