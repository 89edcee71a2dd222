"""The rules that every graph obeys, before and after every pass. Shares no code with the makers of graphs."""

from __future__ import annotations

from dataclasses import dataclass

from plumbline.compiler.graph.graph import ExecutionGraph, OperatorNode, TensorID
from plumbline.contracts.dims import free_symbols
from plumbline.contracts.tensors import TensorType
from plumbline.errors import ValidationError
from plumbline.kernels.contract import Inference
from plumbline.kernels.registry import get_operation

__all__ = ["InvalidGraph", "verify"]


@dataclass(eq=False, kw_only=True)
class InvalidGraph(ValidationError):
    """A graph breaks a structural rule."""

    code = "validation.graph"
    owner = "compiler"
    template = "graph {graph!r}, {place}: {reason}"

    graph: str
    place: str
    reason: str


def verify(graph: ExecutionGraph) -> None:
    """Check structure, order and types.

    Raises:
        InvalidGraph: naming the place and the rule.
    """
    defined = _verify_sources(graph)
    names: set[str] = set()
    for node in graph.nodes:
        _require(node.name not in names, graph, f"node {node.name!r}", "the name is used twice")
        names.add(node.name)
        _verify_operands(graph, node, defined)
        _verify_results(graph, node, defined)
    for name, tensor in graph.outputs.items():
        _require(tensor in defined, graph, f"output {name!r}", f"tensor {tensor!r} is never produced")
    for tensor, edge in graph.tensors.items():
        _require(tensor in defined, graph, f"tensor {tensor!r}", "nothing produces it")
        _require(edge.id == tensor, graph, f"tensor {tensor!r}", f"is stored as {edge.id!r}")
        _verify_symbols(graph, tensor, edge.type)


def _verify_sources(graph: ExecutionGraph) -> set[TensorID]:
    defined: set[TensorID] = set()
    sources = [*graph.inputs.items(), *graph.states.items(), *((t, t) for t in graph.constants)]
    for name, tensor in sources:
        _require(tensor in graph.tensors, graph, f"source {name!r}", f"tensor {tensor!r} has no type")
        _require(tensor not in defined, graph, f"source {name!r}", f"tensor {tensor!r} has two sources")
        defined.add(tensor)
    return defined


def _verify_operands(graph: ExecutionGraph, node: OperatorNode, defined: set[TensorID]) -> None:
    for tensor in node.inputs:
        if tensor is not None and tensor not in defined:
            later = any(tensor in other.outputs for other in graph.nodes)
            reason = (
                "is made later: the graph has a cycle or is out of order" if later else "is never produced"
            )
            raise InvalidGraph(
                graph=graph.name, place=f"node {node.name!r}", reason=f"input {tensor!r} {reason}"
            )


def _verify_results(graph: ExecutionGraph, node: OperatorNode, defined: set[TensorID]) -> None:
    place = f"node {node.name!r}"
    inferred = _infer(graph, node)
    _require(len(inferred) == len(node.outputs), graph, place, "number of outputs does not fit the operation")
    for tensor, expected in zip(node.outputs, inferred, strict=True):
        _require(tensor not in defined, graph, place, f"output {tensor!r} is defined twice")
        _require(tensor in graph.tensors, graph, place, f"output {tensor!r} has no type")
        stated = graph.type_of(tensor)
        same = (stated.dtype, stated.shape) == (expected.dtype, expected.shape)
        _require(
            same, graph, place, f"output {tensor!r} is stated as {stated}, the operation makes {expected}"
        )
        defined.add(tensor)


def _infer(graph: ExecutionGraph, node: OperatorNode) -> tuple[TensorType, ...]:
    """Types by the operation's own rule. Attributes of a text may be absent or of a kind no rule expects."""
    inputs = tuple(None if t is None else graph.type_of(t) for t in node.inputs)
    rule = get_operation(node.operation).infer
    try:
        return rule(Inference(operation=node.operation, inputs=inputs, attributes=node.attributes))
    except KeyError as error:
        reason = f"attribute {error} is missing"
    except (TypeError, ValueError, AttributeError, IndexError, ArithmeticError) as error:
        reason = f"its attributes do not fit {node.operation} ({error})"
    raise InvalidGraph(graph=graph.name, place=f"node {node.name!r}", reason=reason)


def _verify_symbols(graph: ExecutionGraph, tensor: TensorID, type_: TensorType) -> None:
    for dim in type_.shape:
        missing = free_symbols(dim) - graph.symbols.keys()
        _require(
            not missing, graph, f"tensor {tensor!r}", f"symbols without bound: {', '.join(sorted(missing))}"
        )


def _require(condition: bool, graph: ExecutionGraph, place: str, reason: str) -> None:
    if not condition:
        raise InvalidGraph(graph=graph.name, place=place, reason=reason)
