"""Which integer inputs are nothing but indices, and what they may be.

Indices outside of their axis are clamped by the kernels, so that nothing is read that is not there; a caller
who sends a token id that the table does not have would get the row of another one. Where an input of the
graph reaches a gather unchanged, its values can be checked before anything runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from plumbline.compiler.graph.graph import ExecutionGraph, OperatorNode, TensorID
from plumbline.contracts.tensors import DType

__all__ = ["find_index_ranges"]

_GATHERS: Final = frozenset({"gather", "gather_elements"})
"""Operations whose second operand holds indices along `axis` of the first, each of which is used."""
_SAME_VALUES: Final = frozenset({"identity", "reshape", "transpose"})
_INDEX_TYPES: Final = frozenset({DType.INT32, DType.INT64})


def find_index_ranges(graph: ExecutionGraph) -> dict[str, tuple[int, int]]:
    """Inputs whose every value is an index into an axis of known extent, with the least and greatest value
    that ONNX allows: from `-extent` to `extent - 1`, the narrowest where there are several.

    Args:
        graph: as it was imported, before anything is rewritten. What no output depends on does not count.
    """
    carried = {
        tensor: name for name, tensor in graph.inputs.items() if graph.type_of(tensor).dtype.is_integer
    }
    live = _live(graph)
    found: dict[str, tuple[int, int]] = {}
    for node in graph.nodes:
        if not live.intersection(node.outputs):
            continue
        source = _source(graph, node, carried)
        if source is not None:
            carried[node.outputs[0]] = source
        name, extent = _indexed(graph, node, carried)
        if name and extent:
            low, high = found.get(name, (-extent, extent - 1))
            found[name] = (max(low, -extent), min(high, extent - 1))
    return found


def _live(graph: ExecutionGraph) -> set[TensorID]:
    """Tensors that an output, or a state of the next run, depends on."""
    live = {*graph.outputs.values(), *graph.states.values()}
    for node in reversed(graph.nodes):
        if live.intersection(node.outputs):
            live.update(tensor for tensor in node.inputs if tensor is not None)
    return live


def _source(graph: ExecutionGraph, node: OperatorNode, carried: Mapping[TensorID, str]) -> str | None:
    """The input whose values the result of a node holds, all of them and unchanged."""
    operand = node.inputs[0] if node.inputs else None
    name = None if operand is None else carried.get(operand)
    if name is None or operand is None:
        return None
    if node.operation == "cast":
        before, after = graph.type_of(operand).dtype, graph.type_of(node.outputs[0]).dtype
        return name if _keeps_values(before, after) else None
    return name if node.operation in _SAME_VALUES else None


def _keeps_values(before: DType, after: DType) -> bool:
    """Whether every value of an integer type is one of a type of indices."""
    widens = before.size_bytes < after.size_bytes
    return after in _INDEX_TYPES and (widens or (before.size_bytes == after.size_bytes and before.is_signed))


def _indexed(graph: ExecutionGraph, node: OperatorNode, carried: Mapping[TensorID, str]) -> tuple[str, int]:
    """The input that indexes an axis in a node, and the extent of the axis; 0 where it is not known."""
    if node.operation not in _GATHERS:
        return "", 0
    data, indices = node.inputs[0], node.inputs[1]
    if data is None or indices is None or indices not in carried:
        return "", 0
    shape = graph.type_of(data).shape
    extent = shape[node.attributes["axis"] % len(shape)]
    return carried[indices], extent if isinstance(extent, int) else 0
