"""Names of values are made once, used after they can exist, and never depend on themselves."""

from __future__ import annotations

import onnx
import pytest
from onnx import helper, parser

from plumbline.compiler.importers.onnx_wire import order_nodes, read_model, verify_names
from plumbline.compiler.importers.onnx_wire.names import (
    CyclicGraphError,
    DuplicateNameError,
    UndefinedValueError,
)


def verify(model: onnx.ModelProto) -> None:
    verify_names(read_model(model.SerializeToString()))


def value(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, 1, [1])


def constant(name: str) -> onnx.TensorProto:
    return helper.make_tensor(name, 1, [1], [1.0])


def graph_of(nodes=(), inputs=("x",), outputs=("y",), constants=()) -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node("Op", i, o, name=f"n{k}") for k, (i, o) in enumerate(nodes)],
        "g",
        [value(name) for name in inputs],
        [value(name) for name in outputs],
        [constant(name) for name in constants],
    )
    return helper.make_model(graph)


CHAIN = [(["x"], ["a"]), (["a", "", "w"], ["y", ""])]


def test_a_sound_graph_is_accepted() -> None:
    verify(graph_of(CHAIN, constants=["w"]))


def test_an_initialiser_may_be_the_default_of_an_input() -> None:
    verify(graph_of(CHAIN, inputs=["x", "w"], constants=["w"]))


@pytest.mark.parametrize(
    ("changes", "kind", "name"),
    [
        ({"constants": ["w", "w"]}, "initialiser", "w"),
        ({"inputs": ["x", "x"], "constants": ["w"]}, "input", "x"),
        ({"outputs": ["y", "y"], "constants": ["w"]}, "output", "y"),
        ({"nodes": [*CHAIN, (["x"], ["a"])], "constants": ["w"]}, "value", "a"),
        ({"nodes": [*CHAIN, (["x"], ["w"])], "constants": ["w"]}, "value", "w"),
        ({"nodes": [*CHAIN, (["a"], ["x"])], "constants": ["w"]}, "value", "x"),
        ({"nodes": [(["x"], ["y", "y"])]}, "value", "y"),
    ],
)
def test_a_name_given_twice_is_refused(changes: dict[str, object], kind: str, name: str) -> None:
    with pytest.raises(DuplicateNameError) as caught:
        verify(graph_of(**({"nodes": CHAIN} | changes)))
    assert (caught.value.kind, caught.value.name) == (kind, name)


def test_a_value_that_nothing_makes_is_refused_with_its_user() -> None:
    with pytest.raises(UndefinedValueError, match=r"n1.*uses 'w'"):
        verify(graph_of(CHAIN))
    with pytest.raises(UndefinedValueError, match="its output uses 'z'"):
        verify(graph_of(CHAIN, constants=["w"], outputs=["z"]))


@pytest.mark.parametrize(
    "nodes", [[(["y"], ["y"])], [(["x"], ["a"]), (["a", "c"], ["b"]), (["b"], ["c"]), (["c"], ["y"])]]
)
def test_a_cycle_is_refused_with_a_node_on_it(nodes: list[tuple[list[str], list[str]]]) -> None:
    with pytest.raises(CyclicGraphError) as caught:
        verify(graph_of(nodes))
    on_cycle = {"n0"} if len(nodes) == 1 else {"n1", "n2"}
    assert any(f"'{name}'" in caught.value.member for name in on_cycle)


def test_nodes_out_of_order_are_accepted_and_ordered() -> None:
    nodes = [(["b"], ["y"]), (["x"], ["a"]), (["a"], ["b"]), (["x"], ["c"])]
    model = read_model(graph_of(nodes).SerializeToString())
    verify_names(model)
    assert [node.name for node in order_nodes(model.graph.nodes)] == ["n1", "n2", "n0", "n3"]


def test_nodes_in_order_keep_their_order() -> None:
    nodes = [(["x"], ["a"]), (["x"], ["b"]), (["a"], ["c"]), (["b", "c"], ["y"])]
    model = read_model(graph_of(nodes).SerializeToString())
    assert order_nodes(model.graph.nodes) == model.graph.nodes


def nested(body: str, extra: str = "") -> onnx.ModelProto:
    return parser.parse_model(
        f"""<ir_version: 10, opset_import: ["" : 21]>
        main (float[1] x, bool c) => (float[1] y) {{ {extra}
            y = If (c) <then_branch = t () => (float[1] p) {{ {body} }},
                        else_branch = e () => (float[1] q) {{ q = Neg(x) }}>
        }}"""
    )


def test_a_nested_graph_uses_values_around_it() -> None:
    verify(nested("p = Add(x, s)", "s = Neg(x)"))


def test_a_nested_graph_that_uses_nothing_known_is_refused() -> None:
    with pytest.raises(UndefinedValueError, match="'nowhere'"):
        verify(nested("p = Add(x, nowhere)"))


def test_a_nested_graph_that_needs_the_result_of_its_node_is_refused() -> None:
    with pytest.raises(CyclicGraphError):
        verify(nested("p = Add(x, y)"))


def test_a_node_whose_nested_graph_uses_a_value_comes_after_its_maker() -> None:
    model = read_model(nested("p = Add(x, s)", "s = Neg(x)").SerializeToString())
    assert [n.op_type for n in order_nodes(tuple(reversed(model.graph.nodes)))] == ["Neg", "If"]


def test_a_nested_graph_that_only_passes_a_value_on_waits_for_its_maker() -> None:
    model = nested("p = Neg(x)", "s = Neg(x)")
    branch = model.graph.node[1].attribute[0].g
    del branch.node[:]
    branch.output[0].name = "s"
    ours = read_model(model.SerializeToString())
    verify_names(ours)
    assert [n.op_type for n in order_nodes(tuple(reversed(ours.graph.nodes)))] == ["Neg", "If"]


def test_a_nested_graph_may_reuse_a_name_from_around_it() -> None:
    """Exporters name the result of a branch like the result of the node."""
    model = nested("p = Neg(x)")
    branch = model.graph.node[0].attribute[0].g
    branch.node[0].output[0] = branch.output[0].name = "y"
    ours = read_model(model.SerializeToString())
    verify_names(ours)
    assert len(order_nodes(ours.graph.nodes)) == 1


def functions(*bodies: str) -> onnx.ModelProto:
    header = '<ir_version: 10, opset_import: ["" : 21, "f" : 1]>'
    main = "main (float[1] x) => (float[1] y) { y = f.a(x) }"
    return parser.parse_model("\n".join([header, main, *bodies]))


def function(name: str, body: str) -> str:
    return f'<domain: "f", opset_import: ["" : 21, "f" : 1]> {name} (x) => (z) {{ {body} }}'


def test_functions_that_call_each_other_are_refused() -> None:
    verify(functions(function("a", "z = f.b(x)"), function("b", "z = Neg(x)")))
    with pytest.raises(CyclicGraphError, match="f::"):
        verify(functions(function("a", "z = f.b(x)"), function("b", "z = f.a(x)")))


def test_two_functions_of_one_name_are_refused() -> None:
    with pytest.raises(DuplicateNameError, match="f::a"):
        verify(functions(function("a", "z = Neg(x)"), function("a", "z = Abs(x)")))


def test_a_function_body_is_checked() -> None:
    with pytest.raises(UndefinedValueError, match="function f::a"):
        verify(functions(function("a", "z = Neg(unknown)")))


def test_a_long_chain_of_function_calls_is_checked_quickly() -> None:
    bodies = [function("a", "z = f.a1(x)")]
    bodies += [function(f"a{i}", f"z = f.a{i + 1}(x)") for i in range(1, 300)]
    verify(functions(*bodies, function("a300", "z = Neg(x)")))


def test_a_call_through_a_nested_graph_is_a_call() -> None:
    body = "c = Constant <value_int: int = 1> ()  z = If (c) <then_branch = t () => (p) { p = f.a(x) }>"
    with pytest.raises(CyclicGraphError, match="f::a"):
        verify(functions(function("a", body)))
