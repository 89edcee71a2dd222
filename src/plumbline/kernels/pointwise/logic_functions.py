"""Comparisons, logic, bit operations and choice."""

from __future__ import annotations

import numpy as np

from plumbline.contracts.tensors import DType
from plumbline.kernels.emit.ir import FunctionBuilder, Value
from plumbline.kernels.pointwise.definition import Domain, Params, PointwiseFunction, Result, binary, unary

__all__ = ["TABLE"]

_UNSIGNED = {1: DType.UINT8, 2: DType.UINT16, 4: DType.UINT32, 8: DType.UINT64}


def _emit_shift(b: FunctionBuilder, x: tuple[Value, ...], params: Params) -> Value:
    """Shift by the second operand. An amount outside [0, width) gives what shifting every bit out gives."""
    value, amount = x
    width = value.dtype.size_bytes * 8
    inside = b.compare("lt", b.bitcast(amount, _UNSIGNED[value.dtype.size_bytes]), width)
    if params["direction"] == "left":
        shifted = b.shift_left(value, b.select(inside, amount, 0))
        return b.select(inside, shifted, 0)
    shifted = b.shift_right(value, b.select(inside, amount, width - 1))
    return shifted if value.dtype.is_signed else b.select(inside, shifted, 0)


def _reference_shift(x: np.ndarray, y: np.ndarray, params: Params) -> np.ndarray:
    width = x.dtype.itemsize * 8
    inside = (y >= 0) & (y.astype(object) < width) if y.size else y >= 0
    amount = np.where(inside, y, 0).astype(x.dtype)
    if params["direction"] == "left":
        return np.asarray(np.where(inside, np.left_shift(x, amount), 0)).astype(x.dtype)
    return np.asarray(np.where(inside, np.right_shift(x, amount), np.where(x < 0, -1, 0))).astype(x.dtype)


def _emit_is_infinite(b: FunctionBuilder, x: tuple[Value, ...], params: Params) -> Value:
    found = b.const(DType.BOOL, False, x[0].lanes)
    if params.get("detect_positive", True):
        found = found | b.compare("eq", x[0], float("inf"))
    if params.get("detect_negative", True):
        found = found | b.compare("eq", x[0], float("-inf"))
    return found


def _reference_is_infinite(x: np.ndarray, params: Params) -> np.ndarray:
    positive = np.isposinf(x) & bool(params.get("detect_positive", True))
    return np.asarray(positive | (np.isneginf(x) & bool(params.get("detect_negative", True))))


TABLE = (
    binary("equal", lambda b, x, y: b.compare("eq", x, y), np.equal, Domain.ANY, result=Result.BOOL),
    binary("less", lambda b, x, y: x < y, np.less, result=Result.BOOL),
    binary("less_or_equal", lambda b, x, y: x <= y, np.less_equal, result=Result.BOOL),
    binary("greater", lambda b, x, y: x > y, np.greater, result=Result.BOOL),
    binary("greater_or_equal", lambda b, x, y: x >= y, np.greater_equal, result=Result.BOOL),
    binary("and", lambda b, x, y: x & y, np.logical_and, Domain.BOOL),
    binary("or", lambda b, x, y: x | y, np.logical_or, Domain.BOOL),
    binary("xor", lambda b, x, y: x ^ y, np.logical_xor, Domain.BOOL),
    unary("not", lambda b, x: ~x, np.logical_not, Domain.BOOL),
    binary("bitwise_and", lambda b, x, y: x & y, np.bitwise_and, Domain.INTEGER),
    binary("bitwise_or", lambda b, x, y: x | y, np.bitwise_or, Domain.INTEGER),
    binary("bitwise_xor", lambda b, x, y: x ^ y, np.bitwise_xor, Domain.INTEGER),
    unary("bitwise_not", lambda b, x: ~x, np.bitwise_not, Domain.INTEGER),
    unary("is_nan", lambda b, x: b.is_nan(x), np.isnan, result=Result.BOOL),
    PointwiseFunction(
        name="is_inf", arity=1, domain=Domain.FLOAT, result=Result.BOOL, emit=_emit_is_infinite,
        reference=_reference_is_infinite, cost=2,
    ),
    PointwiseFunction(
        name="bit_shift", arity=2, domain=Domain.INTEGER, emit=_emit_shift, cost=3,
        reference=_reference_shift,
    ),
    PointwiseFunction(
        name="where", arity=3, domain=Domain.ANY, selector=True,
        emit=lambda b, x, params: b.select(x[0], x[1], x[2]),
        reference=lambda c, x, y, params: np.asarray(np.where(c, x, y)),
    ),
)  # fmt: skip
