"""Operators whose output shape depends on the values of their operands.

They are computed at build where those operands are constant, and refused by name otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

import numpy as np

from plumbline.compiler.importers.onnx.node import NodeView
from plumbline.compiler.importers.onnx.registry import Converted, converts

__all__ = ["DATA_DEPENDENT"]

DATA_DEPENDENT = {
    "ImageDecoder": "the size of the decoded image",
    "NonMaxSuppression": "the number of boxes kept",
    "NonZero": "the number of elements that are not zero",
    "StringSplit": "the number of words",
    "Unique": "the number of different elements",
}
"""What decides the output shape, by operator. Those without a converter here are never computed at build."""


@converts("NonZero")
def nonzero(node: NodeView) -> Converted:
    """Positions of non-zero elements of a constant: int64 `[rank, count]`."""
    array = node.find_numbers(0)
    if array is None:
        _refuse(node)
    return node.constant(np.array(np.nonzero(np.atleast_1d(array)), np.int64).reshape(max(array.ndim, 1), -1))


@converts("Unique", since=11)
def unique(node: NodeView) -> Converted:
    """Different elements (or slices along an axis) of a constant, by value or by first appearance."""
    array = node.find_numbers(0)
    if array is None:
        _refuse(node)
    axis = node.int("axis") if node.has("axis") else None
    values, first, inverse, counts = np.unique(array, True, True, True, axis=axis)
    order: Sequence[int] | np.ndarray = np.arange(len(first))
    if not node.int("sorted", 1):
        order = np.argsort(first, kind="stable")
    rank = np.empty(len(first), np.int64)
    rank[order] = np.arange(len(first))
    kept = np.take(values, order, axis=0 if axis is None else axis)
    integers = (first[order], rank[inverse.ravel()], counts[order])
    return [node.constant(kept), *(node.constant(part.astype(np.int64)) for part in integers)]


@converts("NonMaxSuppression")
@converts("ImageDecoder")
@converts("StringSplit")
def run_time_only(node: NodeView) -> Converted:
    """Never computed at build."""
    _refuse(node)


def _refuse(node: NodeView) -> NoReturn:
    node.refuse_data_dependent(f"{DATA_DEPENDENT[node.operator]} decides the shape of the output")
