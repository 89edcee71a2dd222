"""Whether the names of an indexed model make sense: each value made once, each use defined, no cycles.

ONNX asks for nodes in topological order, but files that only lack the order are common; they are accepted,
and `order_nodes` gives the order. It is deterministic: among nodes that are ready, the first in the file.
"""

from __future__ import annotations

import heapq
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass

from plumbline.compiler.importers.onnx_wire.records import (
    OnnxFunction,
    OnnxGraph,
    OnnxModel,
    OnnxNode,
)
from plumbline.errors import ValidationError

__all__ = [
    "CyclicGraphError",
    "DuplicateNameError",
    "UndefinedValueError",
    "node_label",
    "order_nodes",
    "verify_names",
]

_Scopes = tuple[frozenset[str], ...]
_FunctionKey = tuple[str, str, str]


@dataclass(eq=False, kw_only=True)
class DuplicateNameError(ValidationError):
    """A name is given twice where it must be unique."""

    code = "validation.onnx.duplicate_name"
    owner = "compiler.importers"
    template = "{scope}: the {kind} name {name!r} is given twice"

    scope: str
    kind: str
    name: str


@dataclass(eq=False, kw_only=True)
class UndefinedValueError(ValidationError):
    """A value is used that nothing makes."""

    code = "validation.onnx.undefined_value"
    owner = "compiler.importers"
    template = "{scope}: {user} uses {name!r}, which no input, initialiser or node makes"

    scope: str
    user: str
    name: str


@dataclass(eq=False, kw_only=True)
class CyclicGraphError(ValidationError):
    """Nodes, or functions, depend on themselves."""

    code = "validation.onnx.cycle"
    owner = "compiler.importers"
    template = "{scope}: {member} depends on its own result"

    scope: str
    member: str


def verify_names(model: OnnxModel) -> None:
    """Check the names of every graph, nested graph and function body.

    A nested graph may use values of the graphs around it and may reuse their names for its own.

    Raises:
        DuplicateNameError: two initialisers, inputs, outputs, functions or makers of a value share a name.
        UndefinedValueError: a value that nothing makes is used.
        CyclicGraphError: nodes or functions depend on themselves.
    """
    _verify_functions(model.functions)
    _verify_nested([model.graph], ())
    for function in model.functions:
        _verify_function(function)


def order_nodes(nodes: Sequence[OnnxNode], scope: str = "graph") -> tuple[OnnxNode, ...]:
    """The nodes in a topological order: file order wherever dependencies allow it.

    Raises:
        CyclicGraphError: naming a node on a cycle.
    """
    makers = {name: index for index, node in enumerate(nodes) for name in node.outputs if name}
    needs: list[set[int]] = []
    users: dict[int, list[int]] = {}
    for index, node in enumerate(nodes):
        makers_of_node = {makers[name] for name in _used_names(node) if name in makers}
        needs.append(makers_of_node)
        for maker in makers_of_node:
            users.setdefault(maker, []).append(index)
    ready = [index for index, needed in enumerate(needs) if not needed]
    order: list[OnnxNode] = []
    while ready:
        index = heapq.heappop(ready)
        order.append(nodes[index])
        for user in users.get(index, ()):
            needs[user].discard(index)
            if not needs[user]:
                heapq.heappush(ready, user)
    if len(order) != len(nodes):
        raise CyclicGraphError(scope=scope, member=node_label(nodes[_on_cycle(needs)]))
    return tuple(order)


def node_label(node: OnnxNode) -> str:
    """How messages name a node: operator and name, or operator and first output."""
    name = node.name or next((output for output in node.outputs if output), "")
    return f"node {name!r} ({node.op_type})"


def _on_cycle(needs: Sequence[set[int]]) -> int:
    """A node on a cycle: walk back along unmet needs until one repeats."""
    index = next(i for i, needed in enumerate(needs) if needed)
    seen: set[int] = set()
    while index not in seen:
        seen.add(index)
        index = min(needs[index])
    return index


def _verify_nested(graphs: Iterable[OnnxGraph], outer: _Scopes) -> None:
    """Check graphs and everything nested in them; `outer` are the names made around them, a set a level."""
    waiting = [(graph, outer) for graph in graphs]
    while waiting:
        graph, around = waiting.pop()
        visible = (*around, _verify_graph(graph, around))
        waiting.extend((inner, visible) for node in graph.nodes for inner in _inner_graphs(node))


def _verify_graph(graph: OnnxGraph, outer: _Scopes) -> frozenset[str]:
    """Check one graph without those nested in it; returns the names that it makes."""
    scope = f"graph {graph.name!r}"
    inputs = _unique((value.name for value in graph.inputs), scope, "input")
    constants = _unique(_constant_names(graph), scope, "initialiser")
    _unique((value.name for value in graph.outputs), scope, "output")
    made = _verify_nodes(graph.nodes, inputs | constants, outer, scope)
    for value in graph.outputs:
        if not _is_made(value.name, made, outer):
            raise UndefinedValueError(scope=scope, user="its output", name=value.name)
    return made


def _verify_function(function: OnnxFunction) -> None:
    scope = f"function {function.domain}::{function.name}"
    inputs = _unique(function.inputs, scope, "input")
    _unique(function.outputs, scope, "output")
    defaults = (attribute.name for attribute in function.attribute_defaults)
    _unique((*function.attributes, *defaults), scope, "attribute")
    made = _verify_nodes(function.nodes, inputs, (), scope)
    for name in function.outputs:
        if name not in made:
            raise UndefinedValueError(scope=scope, user="its output", name=name)
    _verify_nested((inner for node in function.nodes for inner in _inner_graphs(node)), (made,))


def _verify_nodes(
    nodes: Sequence[OnnxNode], given: frozenset[str], outer: _Scopes, scope: str
) -> frozenset[str]:
    """Values made in one scope: each once, each use defined, no cycle."""
    made = set(given)
    for node in nodes:
        for name in node.outputs:
            if name and name in made:
                raise DuplicateNameError(scope=scope, kind="value", name=name)
            made.add(name)
    made.discard("")
    for node in nodes:
        for name in node.inputs:
            if name and not _is_made(name, made, outer):
                raise UndefinedValueError(scope=scope, user=node_label(node), name=name)
    order_nodes(nodes, scope)
    return frozenset(made)


def _is_made(name: str, made: Container[str], outer: _Scopes) -> bool:
    return name in made or any(name in scope for scope in outer)


def _verify_functions(functions: Sequence[OnnxFunction]) -> None:
    """Functions have unique names, and none calls itself, directly or through others."""
    table: dict[_FunctionKey, OnnxFunction] = {}
    for function in functions:
        key = (function.domain, function.name, function.overload)
        if key in table:
            raise DuplicateNameError(scope="model", kind="function", name=f"{key[0]}::{key[1]}")
        table[key] = function
    callers: dict[_FunctionKey, set[_FunctionKey]] = {key: set() for key in table}
    waiting: dict[_FunctionKey, int] = {}
    for key, function in table.items():
        called = {call for call in _calls(function.nodes) if call in table}
        waiting[key] = len(called)
        for call in called:
            callers[call].add(key)
    ready = [key for key, count in waiting.items() if count == 0]
    while ready:
        done = ready.pop()
        del waiting[done]
        for caller in callers[done]:
            waiting[caller] -= 1
            if waiting[caller] == 0:
                ready.append(caller)
    if waiting:
        domain, name, _ = min(waiting)
        raise CyclicGraphError(scope="model", member=f"function {domain}::{name}")


def _calls(nodes: Iterable[OnnxNode]) -> Iterator[_FunctionKey]:
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        yield (node.domain, node.op_type, node.overload)
        waiting.extend(inner for graph in _inner_graphs(node) for inner in graph.nodes)


def _constant_names(graph: OnnxGraph) -> Iterator[str]:
    yield from (tensor.name for tensor in graph.initializers)
    yield from (sparse.values.name for sparse in graph.sparse_initializers)


def _inner_graphs(node: OnnxNode) -> Iterator[OnnxGraph]:
    for attribute in node.attributes:
        values = attribute.value if isinstance(attribute.value, tuple) else (attribute.value,)
        yield from (value for value in values if isinstance(value, OnnxGraph))


def _used_names(node: OnnxNode) -> Iterator[str]:
    """Inputs of a node and the names that its nested graphs take from outside."""
    yield from node.inputs
    waiting: list[tuple[OnnxGraph, _Scopes]] = [(graph, ()) for graph in _inner_graphs(node)]
    while waiting:
        graph, around = waiting.pop()
        made = frozenset(_made_names(graph))
        wanted = [value.name for value in graph.outputs]
        for inner in graph.nodes:
            wanted.extend(inner.inputs)
            waiting.extend((nested, (*around, made)) for nested in _inner_graphs(inner))
        yield from (name for name in wanted if not _is_made(name, made, around))


def _made_names(graph: OnnxGraph) -> Iterator[str]:
    yield from (value.name for value in graph.inputs)
    yield from _constant_names(graph)
    for node in graph.nodes:
        yield from node.outputs


def _unique(names: Iterable[str], scope: str, kind: str) -> frozenset[str]:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DuplicateNameError(scope=scope, kind=kind, name=name)
        seen.add(name)
    return frozenset(seen)
