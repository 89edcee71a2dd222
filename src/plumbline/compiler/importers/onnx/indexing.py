"""Converters of operators that read or write by index.

An index outside of its axis is clamped while it runs; where it comes straight from an input of the model, a
request that holds one is refused (`compiler.index_ranges`).
"""

from __future__ import annotations

import numpy as np

from plumbline.compiler.graph.graph import TensorID
from plumbline.compiler.importers.onnx.movement import axis_of
from plumbline.compiler.importers.onnx.node import NodeView
from plumbline.compiler.importers.onnx.registry import Converted, converts
from plumbline.contracts.dims import product


@converts("Gather")
def gather(node: NodeView) -> Converted:
    """Pick along one axis."""
    axis = axis_of(node, node.int("axis", 0), node.rank(0))
    return node.add1("gather", [node.input(0), node.input(1)], {"axis": axis})


@converts("GatherElements", since=11)
def gather_elements(node: NodeView) -> Converted:
    """Pick one element for each index."""
    axis = axis_of(node, node.int("axis", 0), node.rank(0))
    return node.add1("gather_elements", [node.input(0), node.input(1)], {"axis": axis})


@converts("GatherND", since=11)
def gather_nd(node: NodeView) -> Converted:
    """Pick slices by index tuples."""
    return node.add1("gather_nd", [node.input(0), node.input(1)], {"batch_dims": node.int("batch_dims", 0)})


@converts("Scatter", since=9)
@converts("ScatterElements", since=11)
def scatter_elements(node: NodeView) -> Converted:
    """Write one element for each index."""
    axis = axis_of(node, node.int("axis", 0), node.rank(0))
    operands = [node.input(0), node.input(1), node.input(2)]
    return node.add1(
        "scatter_elements", operands, {"axis": axis, "reduction": node.string("reduction", "none")}
    )


@converts("ScatterND", since=11)
def scatter_nd(node: NodeView) -> Converted:
    """Write slices by index tuples."""
    operands = [node.input(0), node.input(1), node.input(2)]
    return node.add1("scatter_nd", operands, {"reduction": node.string("reduction", "none")})


@converts("TensorScatter", since=24)
def tensor_scatter(node: NodeView) -> Converted:
    """Write a run of each batch into a cache."""
    axis = axis_of(node, node.int("axis", -2), node.rank(0))
    operands: list[TensorID | None] = [node.input(0), node.input(1)]
    if node.optional(2) is not None:
        operands.append(node.input(2))
    return node.add1("tensor_scatter", operands, {"axis": axis, "mode": node.string("mode", "linear")})


@converts("Compress", since=9)
def compress(node: NodeView) -> Converted:
    """Keep what a condition marks; the condition decides the shape and must be known at build."""
    tensor = node.input(0)
    if node.has("axis"):
        axis = axis_of(node, node.int("axis"), node.rank(0))
    else:
        tensor, axis = node.reshape(tensor, (product(node.shape(0)),)), 0
    chosen = np.flatnonzero(node.numbers(1))
    extent = node.builder.type_of(tensor).shape[axis]
    if isinstance(extent, int):
        chosen = chosen[chosen < extent]
    return node.add1("gather", [tensor, node.constant(chosen.astype(np.int64))], {"axis": axis})


@converts("ArrayFeatureExtractor", domain="ai.onnx.ml")
def array_feature_extractor(node: NodeView) -> Converted:
    """Pick columns of the last axis; vectors give one row."""
    tensor, indices = node.input(0), node.input(1)
    if node.rank(0) == 1:
        tensor = node.reshape(tensor, (1, *node.shape(0)))
    flat = node.reshape(indices, (product(node.shape(1)),))
    return node.add1("gather", [tensor, flat], {"axis": node.builder.type_of(tensor).rank - 1})
