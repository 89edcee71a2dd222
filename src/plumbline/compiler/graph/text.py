"""The text form of a graph. It round-trips, and its bytes are what the graph hash covers.

One statement a line::

    graph "mlp"
    symbol batch <= 8
    input "x" = %x : float32[batch, 64]
    constant %w : float32[64, 10] = "sha256:..."
    node "fc" %y : float32[batch, 10] = matmul(%x, %w) {}
    output "y" = %y

Constants are named by identity; `parse_graph` is given the bytes. Small ones (up to 64 values) are written
out.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from plumbline.compiler.graph.constant import ArrayConstant, Constant
from plumbline.compiler.graph.graph import (
    ExecutionGraph,
    OperatorNode,
    TensorEdge,
    TensorID,
    freeze_attributes,
)
from plumbline.compiler.graph.verify import verify
from plumbline.contracts.dims import Expr, format_dim, parse_dim
from plumbline.contracts.tensors import ROW_MAJOR, Blocked, DType, Layout, Packed, TensorType
from plumbline.errors import ArtifactError

__all__ = [
    "GraphTextRefused",
    "format_attributes",
    "format_graph",
    "parse_attributes",
    "parse_graph",
    "parse_type",
]

TEXT_VERSION = 1
_INLINE = 64


@dataclass(eq=False, kw_only=True)
class GraphTextRefused(ArtifactError):
    """The text is not a graph."""

    code = "artifact.graph_text"
    owner = "compiler"
    template = "graph text, line {line}: {reason}"

    line: int
    reason: str


def format_graph(graph: ExecutionGraph) -> str:
    """The text of a graph."""
    lines = [f"graph {_quote(graph.name)} version {TEXT_VERSION}"]
    lines += [f"symbol {name} <= {graph.symbols[name]}" for name in sorted(graph.symbols)]
    lines += [_port("input", name, tensor, graph) for name, tensor in graph.inputs.items()]
    lines += [_port("state", name, tensor, graph) for name, tensor in graph.states.items()]
    lines += [_format_constant(t, graph) for t in sorted(graph.constants)]
    lines += [_format_node(node, graph) for node in graph.nodes]
    lines += [f"output {_quote(name)} = {_id(tensor)}" for name, tensor in graph.outputs.items()]
    return "\n".join(lines) + "\n"


def format_attributes(attributes: Mapping[str, Any]) -> str:
    """Text of attributes, in name order; `parse_attributes` reads it back."""
    return ", ".join(f"{k}={_format_attribute(v)}" for k, v in sorted(attributes.items()))


def _port(kind: str, name: str, tensor: TensorID, graph: ExecutionGraph) -> str:
    return f"{kind} {_quote(name)} = {_id(tensor)} : {graph.type_of(tensor)}"


def _format_constant(tensor: TensorID, graph: ExecutionGraph) -> str:
    constant, type_ = graph.constants[tensor], graph.type_of(tensor)
    elements = type_.elements
    if isinstance(constant, ArrayConstant) and isinstance(elements, int) and elements <= _INLINE:
        return f"constant {_id(tensor)} : {type_} = values {_format_values(constant.array)}"
    return f"constant {_id(tensor)} : {type_} = {_quote(constant.identity)}"


def _format_values(array: np.ndarray) -> str:
    if array.dtype.kind == "f":
        return json.dumps([float(v).hex() if np.isfinite(v) else str(v) for v in array.ravel()])
    return json.dumps([int(v) for v in array.ravel()])


def _format_node(node: OperatorNode, graph: ExecutionGraph) -> str:
    results = ", ".join(f"{_id(t)} : {graph.type_of(t)}" for t in node.outputs)
    operands = ", ".join("none" if t is None else _id(t) for t in node.inputs)
    attributes = format_attributes(node.attributes)
    return f"node {_quote(node.name)} {results} = {node.operation}({operands}) {{{attributes}}}"


def _format_attribute(value: Any) -> str:
    match value:
        case DType():
            return f"dtype:{value.value}"
        case Expr():
            return f"dim:{_quote(format_dim(value))}"
        case bool() | int() | None:
            return repr(value)
        case float():
            return f"float:{_quote(value.hex())}"
        case str():
            return _quote(value)
        case tuple() | list():
            return f"({''.join(_format_attribute(v) + ',' for v in value)})"
    raise TypeError(f"attribute of type {type(value).__name__} has no text form")


def _id(tensor: TensorID) -> str:
    return "%" + (tensor if _PLAIN.fullmatch(tensor) else _quote(tensor))


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=True)


_PLAIN = re.compile(r"[A-Za-z0-9_.\-/]+")
_STRING = r'"(?:[^"\\]|\\.)*"'
_TENSOR = rf"%(?:[A-Za-z0-9_.\-/]+|{_STRING})"
_TYPE = r"\w+\[[^\]]*\](?: @\w+(?:\([^)]*\))?)?"
_RE_GRAPH = re.compile(rf"graph ({_STRING}) version (\d+)")
_RE_SYMBOL = re.compile(r"symbol (\w+) <= (\d+)")
_RE_PORT = re.compile(rf"(input|state) ({_STRING}) = ({_TENSOR}) : ({_TYPE})")
_RE_CONSTANT = re.compile(rf"constant ({_TENSOR}) : ({_TYPE}) = (?:values (\[.*\])|({_STRING}))")
_RE_NODE = re.compile(rf"node ({_STRING}) (.*?) = (\w+)\(((?:{_TENSOR}|none|, )*)\) \{{(.*)\}}")
_RE_RESULT = re.compile(rf"({_TENSOR}) : ({_TYPE})")
_RE_OUTPUT = re.compile(rf"output ({_STRING}) = ({_TENSOR})")
_RE_TYPE = re.compile(r"(\w+)\[([^\]]*)\](?: @(\w+)(?:\(([^)]*)\))?)?")


def parse_graph(text: str, constants: Mapping[str, Constant] | None = None) -> ExecutionGraph:
    """Read the text form and verify the graph.

    Args:
        text: what `format_graph` wrote.
        constants: identity -> bytes, for constants that are not written out.

    Raises:
        GraphTextRefused: a line cannot be read, or names a constant that was not given.
        InvalidGraph: the graph breaks a rule of `verify`.
    """
    parser = _Parser(constants or {})
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            parser.line(number, line.strip())
    graph = parser.graph()
    verify(graph)
    return graph


class _Parser:
    def __init__(self, available: Mapping[str, Constant]) -> None:
        self._available = available
        self._name: str | None = None
        self._symbols: dict[str, int] = {}
        self._nodes: list[OperatorNode] = []
        self._tensors: dict[TensorID, TensorEdge] = {}
        self._constants: dict[TensorID, Constant] = {}
        self._ports: dict[str, dict[str, TensorID]] = {"input": {}, "state": {}, "output": {}}

    def line(self, number: int, text: str) -> None:
        rules: tuple[tuple[re.Pattern[str], Callable[..., None]], ...] = (
            (_RE_GRAPH, self._graph), (_RE_SYMBOL, self._symbol), (_RE_PORT, self._port),
            (_RE_CONSTANT, self._constant), (_RE_NODE, self._node), (_RE_OUTPUT, self._output),
        )  # fmt: skip
        for pattern, action in rules:
            match = pattern.fullmatch(text)
            if match:
                try:
                    action(*match.groups())
                except (ValueError, SyntaxError, KeyError) as error:
                    raise GraphTextRefused(line=number, reason=f"{type(error).__name__}: {error}") from error
                return
        raise GraphTextRefused(line=number, reason="no statement has this form")

    def graph(self) -> ExecutionGraph:
        if self._name is None:
            raise GraphTextRefused(line=1, reason="the first statement must be `graph`")
        return ExecutionGraph(
            name=self._name, symbols=self._symbols, nodes=tuple(self._nodes), tensors=self._tensors,
            constants=self._constants, inputs=self._ports["input"], outputs=self._ports["output"],
            states=self._ports["state"],
        )  # fmt: skip

    def _graph(self, name: str, version: str) -> None:
        if int(version) != TEXT_VERSION:
            raise ValueError(f"version {version} is not {TEXT_VERSION}")
        self._name = json.loads(name)

    def _symbol(self, name: str, bound: str) -> None:
        self._symbols[name] = int(bound)

    def _port(self, kind: str, name: str, tensor: str, type_: str) -> None:
        self._ports[kind][json.loads(name)] = self._define(tensor, type_)

    def _constant(self, tensor: str, type_: str, values: str | None, identity: str | None) -> None:
        key = self._define(tensor, type_)
        if values is not None:
            self._constants[key] = ArrayConstant(_parse_values(values, self._tensors[key].type))
            return
        name = json.loads(identity or '""')
        if name not in self._available:
            raise ValueError(f"no bytes were given for constant {name}")
        self._constants[key] = self._available[name]

    def _node(self, name: str, results: str, operation: str, operands: str, attributes: str) -> None:
        outputs = tuple(self._define(t, k) for t, k in _RE_RESULT.findall(results))
        inputs = tuple(
            None if t == "none" else _parse_id(t) for t in re.findall(rf"{_TENSOR}|none", operands)
        )
        self._nodes.append(
            OperatorNode(
                name=json.loads(name), operation=operation, inputs=inputs, outputs=outputs,
                attributes=freeze_attributes(parse_attributes(attributes)),
            )
        )  # fmt: skip

    def _output(self, name: str, tensor: str) -> None:
        self._ports["output"][json.loads(name)] = _parse_id(tensor)

    def _define(self, tensor: str, type_: str) -> TensorID:
        key = _parse_id(tensor)
        if key in self._tensors:
            raise ValueError(f"tensor {key} is defined twice")
        self._tensors[key] = TensorEdge(id=key, type=parse_type(type_))
        return key


def _parse_id(text: str) -> TensorID:
    name = text[1:]
    return TensorID(json.loads(name) if name.startswith('"') else name)


def _parse_values(text: str, type_: TensorType) -> np.ndarray:
    items = json.loads(text)
    numbers = [float.fromhex(v) if isinstance(v, str) else v for v in items]
    shape = tuple(d for d in type_.shape if isinstance(d, int))
    return np.array(numbers, dtype=type_.dtype.numpy).reshape(shape)


def parse_type(text: str) -> TensorType:
    """Read the text of a tensor type.

    Raises:
        ValueError: the text is not a type.
    """
    match = _RE_TYPE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a tensor type")
    dtype, dims, layout, parameters = match.groups()
    shape = tuple(parse_dim(d) for d in _split(dims))
    return TensorType(DType(dtype), shape, _parse_layout(layout, parameters))


def _split(text: str) -> list[str]:
    parts, depth, current = [], 0, ""
    for character in text:
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            parts.append(current)
            current = ""
        else:
            current += character
    return [p.strip() for p in [*parts, current] if p.strip()]


def _parse_layout(name: str | None, parameters: str | None) -> Layout:
    if name is None:
        return ROW_MAJOR
    items = _split(parameters or "")
    if name == "packed":
        return Packed(scheme=items[0], parameters=tuple(map(int, items[1:])))
    if name == "blocked":
        halo = tuple(map(int, items[1:])) or (0, 0, 0, 0)
        return Blocked(block=int(items[0]), top=halo[0], left=halo[1], bottom=halo[2], right=halo[3])
    raise ValueError(f"layout {name} is unknown")


_ATTRIBUTE_TAGS = re.compile(r"\b(dtype):(\w+)|\b(dim|float):(" + _STRING + ")|(" + _STRING + ")")


def parse_attributes(text: str) -> dict[str, Any]:
    """Read attributes: Python literals once tags have become calls of known names. Nothing is evaluated.

    Raises:
        ValueError, SyntaxError: the text is not a list of name=value pairs.
    """
    prepared = _ATTRIBUTE_TAGS.sub(_tag, text)
    call = ast.parse(f"f({prepared})", mode="eval").body
    if not isinstance(call, ast.Call) or call.args:
        raise ValueError("attributes are name=value pairs")
    return {k.arg: _literal(k.value) for k in call.keywords if k.arg is not None}


def _tag(match: re.Match[str]) -> str:
    dtype, name, kind, quoted, plain = match.groups()
    if dtype:
        return f"dtype({name!r})"
    return f"{kind}({quoted})" if kind else str(plain)


def _literal(node: ast.expr) -> Any:
    match node:
        case ast.Tuple(elts=items):
            return tuple(_literal(i) for i in items)
        case ast.Call(func=ast.Name(id="dtype"), args=[ast.Constant(value=str(name))]):
            return DType(name)
        case ast.Call(func=ast.Name(id="dim"), args=[ast.Constant(value=str(expression))]):
            return parse_dim(expression)
        case ast.Call(func=ast.Name(id="float"), args=[ast.Constant(value=str(number))]):
            return float.fromhex(number)
    return ast.literal_eval(node)
