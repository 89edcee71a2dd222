"""`evaluate_graph`: a graph by the references of its operations, one node after another, in numpy.

The slow twin of the compiler: passes must not change what it computes, and native code must agree with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from plumbline.compiler.graph.graph import ExecutionGraph, OperatorNode, TensorID
from plumbline.contracts import dims
from plumbline.contracts.dims import Dim, Expr
from plumbline.contracts.tensors import DType, Packed, TensorType
from plumbline.kernels.blocked.packing import pack_conv, pack_conv_planar, pack_depthwise, pack_grouped
from plumbline.kernels.gemm.packing import PanelLayout, pack_gemm
from plumbline.kernels.registry import get_operation
from plumbline.testing.kernels import bfloat16_values

__all__ = ["evaluate_graph", "solve_symbols", "unpack_weights"]


def evaluate_graph(
    graph: ExecutionGraph,
    inputs: Mapping[str, np.ndarray],
    states: Mapping[str, np.ndarray] | None = None,
    symbols: Mapping[str, int] | None = None,
) -> dict[str, np.ndarray]:
    """Outputs by name.

    Args:
        graph: any valid graph, before or after passes.
        inputs: arrays by name; bfloat16 as uint16 bits.
        states: arrays of states by name.
        symbols: values of the symbols; default: solved from the shapes of the inputs.

    Returns:
        Arrays in the references' types: bfloat16 results are float32.
    """
    values = dict(symbols) if symbols is not None else solve_symbols(graph, inputs)
    known: dict[TensorID, np.ndarray] = {}
    sources = ((graph.inputs, inputs), (graph.states, states or {}))
    for ports, arrays in sources:
        known.update({t: _seen(arrays[name], graph.type_of(t)) for name, t in ports.items()})
    known.update({t: _constant(t, graph) for t in graph.constants})
    for node in graph.nodes:
        for tensor, array in zip(node.outputs, _evaluate(node, known, values), strict=True):
            known[tensor] = _checked(np.asarray(array), graph.type_of(tensor), values, node)
    return {name: known[tensor] for name, tensor in graph.outputs.items()}


def solve_symbols(graph: ExecutionGraph, inputs: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Values of symbols that are an axis of an input, or an axis less a number.

    Raises:
        ValueError: an extent contradicts the others.
    """
    symbols: dict[str, int] = {}
    pairs = [
        (dim, extent)
        for name, tensor in graph.inputs.items()
        for dim, extent in zip(graph.type_of(tensor).shape, inputs[name].shape, strict=True)
    ]
    for dim, extent in pairs:
        names = sorted(dims.free_symbols(dim))
        if len(names) == 1 and names[0] not in symbols:
            rest = dims.sub(dim, dims.symbol(names[0]))
            if isinstance(rest, int):
                symbols[names[0]] = extent - rest
    for dim, extent in pairs:
        if dims.evaluate(dim, symbols) != extent:
            raise ValueError(f"extent {extent} does not fit {dims.format_dim(dim)} with {symbols}")
    return symbols


def unpack_weights(stream: np.ndarray, type_: TensorType) -> np.ndarray:
    """Weights in a packed layout as an array of their logical shape; padding is dropped."""
    layout = type_.layout
    shape = tuple(int(d) for d in type_.shape if isinstance(d, int))
    if not isinstance(layout, Packed):
        return stream.reshape(shape)
    order = np.arange(1, int(np.prod(shape)) + 1, dtype=np.float32).reshape(shape)
    places = _PACKERS[layout.scheme](order, layout).astype(np.int64)
    flat = np.zeros(order.size + 1, stream.dtype)
    flat[places] = stream.reshape(-1)
    return flat[1:].reshape(shape)


_PACKERS: Mapping[str, Callable[[np.ndarray, Packed], np.ndarray]] = {
    "gemm": lambda w, layout: pack_gemm(w, PanelLayout.of(layout)),
    "conv": lambda w, layout: pack_conv(w, *layout.parameters[-2:]),
    "conv_planar": lambda w, layout: pack_conv_planar(w, *layout.parameters[-2:]),
    "conv_grouped": lambda w, layout: pack_grouped(w, *layout.parameters[-2:]),
    "depthwise": lambda w, layout: pack_depthwise(w, layout.parameters[-1]),
}


def _constant(tensor: TensorID, graph: ExecutionGraph) -> np.ndarray:
    type_ = graph.type_of(tensor)
    return _seen(unpack_weights(np.asarray(graph.constants[tensor].read()), type_), type_)


def _seen(array: np.ndarray, type_: TensorType) -> np.ndarray:
    """References see bfloat16 as float32."""
    return bfloat16_values(array) if type_.dtype is DType.BFLOAT16 and array.dtype == np.uint16 else array


def _evaluate(node: OperatorNode, known: Mapping[TensorID, np.ndarray], symbols: Mapping[str, int]) -> Any:
    arrays = [None if t is None else known[t] for t in node.inputs]
    attributes = {name: _concrete(value, symbols) for name, value in node.attributes.items()}
    return get_operation(node.operation).reference(arrays, attributes)


def _concrete(attribute: Any, symbols: Mapping[str, int]) -> Any:
    if isinstance(attribute, Expr):
        return dims.evaluate(attribute, symbols)
    return tuple(_concrete(a, symbols) for a in attribute) if isinstance(attribute, tuple) else attribute


def _checked(
    array: np.ndarray, type_: TensorType, symbols: Mapping[str, int], node: OperatorNode
) -> np.ndarray:
    shape = tuple(_extent(d, symbols) for d in type_.shape)
    if array.shape != shape:
        raise ValueError(f"node {node.name}: the reference made {array.shape}, the graph says {shape}")
    return array


def _extent(dim: Dim, symbols: Mapping[str, int]) -> int:
    return dims.evaluate(dim, symbols)
