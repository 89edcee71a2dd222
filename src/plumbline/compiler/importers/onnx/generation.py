"""Converters of operators that make tensors from a rule: fills, ranges, diagonals, one-hot, triangles."""

from __future__ import annotations

import math

import numpy as np

from plumbline.compiler.importers.onnx.constants import add_initializer
from plumbline.compiler.importers.onnx.movement import axis_of
from plumbline.compiler.importers.onnx.node import NodeView
from plumbline.compiler.importers.onnx.registry import Converted, converts
from plumbline.contracts.dims import Dim, Expr, add, mul
from plumbline.contracts.tensors import DType
from plumbline.kernels.movement.bounds import count_steps

MAX_RANGE = 1 << 48


@converts("ConstantOfShape", since=9)
def constant_of_shape(node: NodeView) -> Converted:
    """One value everywhere, float32 0 by default."""
    if node.has("value"):
        value = add_initializer(node.builder, node.tensor("value"))
    else:
        value = node.scalar(0.0, DType.FLOAT32)
    return node.add1("constant_of_shape", [value], {"shape": node.dims(0)})


@converts("Range", since=11)
def range_(node: NodeView) -> Converted:
    """From start to below limit; the number of elements must be known at build."""
    if node.type(0).dtype.is_float:
        start, limit, delta = (_number(node, i) for i in range(3))
        if delta == 0.0 or not all(map(math.isfinite, (start, limit, delta))):
            node.refuse(f"range from {start} to {limit} by {delta}")
        size = max(0, math.ceil((limit - start) / delta))
        if size >= MAX_RANGE:
            node.refuse(f"a range of {size} elements")
        return node.add1("range", [node.input(0), node.input(2)], {"size": size})
    first, end, step = (node.dims(i)[0] for i in range(3))
    if not isinstance(step, int):
        node.refuse_data_dependent("the step of a range must be a plain integer")
    if step == 0:
        node.refuse("a range with step 0")
    return _count(node, first, step, count_steps(first, end, step, node.builder.symbols))


def _number(node: NodeView, position: int) -> float:
    array = node.numbers(position).reshape(())
    if node.type(position).dtype is DType.BFLOAT16:
        array = np.left_shift(array.astype(np.uint32), 16).view(np.float32)
    return float(array)


def _count(node: NodeView, first: Dim, step: int, size: Dim) -> Converted:
    dtype = node.type(0).dtype
    if isinstance(size, int) and isinstance(first, Expr):
        return node.cast(node.builder.symbolic([add(first, mul(i, step)) for i in range(size)]), dtype)
    return node.add1("range", [], {"size": size, "start": first, "step": step, "dtype": dtype})


@converts("EyeLike", since=9)
def eye_like(node: NodeView) -> Converted:
    """Ones on a diagonal of a matrix shaped like the operand."""
    dtype = node.dtype(node.int("dtype")) if node.has("dtype") else node.type(0).dtype
    return node.add1("eye", [], {"shape": node.shape(0), "k": node.int("k", 0), "dtype": dtype})


@converts("Trilu", since=14)
def trilu(node: NodeView) -> Converted:
    """One triangle of each matrix."""
    operands = [node.input(0)] if node.optional(1) is None else [node.input(0), node.input(1)]
    return node.add1("trilu", operands, {"upper": node.int("upper", 1) == 1})


@converts("OneHot", since=9)
def one_hot(node: NodeView) -> Converted:
    """Lines of `off` with one `on`; the depth must be known at build."""
    known = node.builder.find_value(node.input(1))
    if known is not None:
        depth: Dim = known.ravel()[0]
    else:
        depth = int(np.asarray(node.numbers(1)).reshape(-1)[0])
    axis = axis_of(node, node.int("axis", -1), node.rank(0) + 1)
    return node.add1("one_hot", [node.input(0), node.input(2)], {"depth": depth, "axis": axis})
