"""The table of pointwise functions: how each is emitted and what numpy computes for it.

A `PointwiseFunction` is scalar mathematics only. Broadcasting, loops, half-width types and fusion belong to the
kernel. `emit` sees operands in compute type (float16 and bfloat16 arrive as float32).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from plumbline.contracts.tensors import DType
from plumbline.kernels.contract import Precision
from plumbline.kernels.emit import math
from plumbline.kernels.emit.ir import FunctionBuilder, Value

__all__ = ["FUNCTIONS", "Domain", "PointwiseFunction", "Result"]

Params = Mapping[str, Any]


class Domain(StrEnum):
    """Element types that a function accepts."""

    FLOAT = "float"
    NUMBER = "number"
    INTEGER = "integer"
    BOOL = "bool"
    BITS = "bits"
    """integers and bool"""
    ANY = "any"


class Result(StrEnum):
    """Element type of the result."""

    SAME = "same"
    BOOL = "bool"
    PARAMETER = "parameter"
    """attribute `to`"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PointwiseFunction:
    """One function of one to three operands of one element type (a selector may come first)."""

    name: str
    arity: int
    emit: Callable[[FunctionBuilder, tuple[Value, ...], Params], Value]
    reference: Callable[..., np.ndarray]
    domain: Domain = Domain.NUMBER
    result: Result = Result.SAME
    precision: Precision = Precision()
    cost: float = 1.0
    selector: bool = False
    """operand 0 is a bool that chooses between the others"""
    keeps_zero: bool = False
    """f(0) = 0, so zero padding stays zero"""


def _unary(
    name: str,
    emit: Callable[[FunctionBuilder, Value], Value],
    reference: Callable[[np.ndarray], np.ndarray],
    domain: Domain = Domain.FLOAT,
    *,
    ulps: float = 0.0,
    cost: float = 1.0,
    keeps_zero: bool = False,
    result: Result = Result.SAME,
) -> PointwiseFunction:
    return PointwiseFunction(
        name=name, arity=1, domain=domain, cost=cost, keeps_zero=keeps_zero, result=result,
        precision=Precision(relative=ulps * 2.0**-23, absolute=ulps * 2.0**-24 if ulps else 0.0),
        emit=lambda b, x, params: emit(b, x[0]), reference=lambda x, params: reference(x),
    )  # fmt: skip


def _binary(
    name: str,
    emit: Callable[[FunctionBuilder, Value, Value], Value],
    reference: Callable[[np.ndarray, np.ndarray], np.ndarray],
    domain: Domain = Domain.NUMBER,
    *,
    result: Result = Result.SAME,
    ulps: float = 0.0,
    cost: float = 1.0,
) -> PointwiseFunction:
    return PointwiseFunction(
        name=name, arity=2, domain=domain, result=result, cost=cost,
        precision=Precision(relative=ulps * 2.0**-23, absolute=ulps * 2.0**-24 if ulps else 0.0),
        emit=lambda b, x, params: emit(b, x[0], x[1]), reference=lambda x, y, params: reference(x, y),
    )  # fmt: skip


def _relu(b: FunctionBuilder, x: Value) -> Value:
    return b.maximum(x, 0)


def _gelu(b: FunctionBuilder, x: Value) -> Value:
    half = x * 0.5
    return b.fma(half, math.erf(b, x * 0.7071067811865476), half)


def _emit_clip(b: FunctionBuilder, x: tuple[Value, ...], params: Params) -> Value:
    value = x[0]
    if params.get("low") is not None:
        value = b.maximum(value, params["low"])
    return value if params.get("high") is None else b.minimum(value, params["high"])


def _reference_clip(x: np.ndarray, params: Params) -> np.ndarray:
    low, high = params.get("low"), params.get("high")
    value = x if low is None else np.maximum(x, x.dtype.type(low))
    return value if high is None else np.minimum(value, x.dtype.type(high))


def _reference_erf(x: np.ndarray) -> np.ndarray:
    from math import erf

    return np.vectorize(erf, otypes=[np.float64])(x)


def _divide(b: FunctionBuilder, x: Value, y: Value) -> Value:
    if x.dtype.is_float:
        return x / y
    return x / b.select(b.compare("eq", y, 0), 1, y)


def _reference_divide(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    if np.issubdtype(x.dtype, np.floating):
        return x / y
    safe = np.where(y == 0, 1, y)
    quotient = np.abs(x.astype(object)) // np.abs(safe.astype(object))
    return np.asarray(np.where((x < 0) != (safe < 0), -quotient, quotient)).astype(x.dtype)


_TABLE = (
    _unary("identity", lambda b, x: x, lambda x: x, Domain.ANY, keeps_zero=True),
    _unary("neg", lambda b, x: -x, np.negative, Domain.NUMBER, keeps_zero=True),
    _unary("abs", lambda b, x: b.absolute(x), np.abs, Domain.NUMBER, keeps_zero=True),
    _unary("relu", _relu, lambda x: np.maximum(x, 0), Domain.NUMBER, keeps_zero=True),
    _unary("sqrt", lambda b, x: b.sqrt(x), np.sqrt, ulps=1, cost=4, keeps_zero=True),
    _unary("reciprocal", lambda b, x: 1.0 / x, lambda x: 1.0 / x, ulps=1, cost=4),
    _unary("exp", math.exp, np.exp, ulps=4, cost=14),
    _unary("log", math.log, np.log, ulps=4, cost=20),
    _unary("tanh", math.tanh, np.tanh, ulps=8, cost=26, keeps_zero=True),
    _unary("sigmoid", math.sigmoid, lambda x: 1.0 / (1.0 + np.exp(-x)), ulps=8, cost=18),
    _unary("erf", math.erf, _reference_erf, ulps=16, cost=30, keeps_zero=True),
    _unary("gelu", _gelu, lambda x: 0.5 * x * (1.0 + _reference_erf(x / np.sqrt(2.0))), ulps=32, cost=34, keeps_zero=True),
    _binary("add", lambda b, x, y: x + y, np.add),
    _binary("sub", lambda b, x, y: x - y, np.subtract),
    _binary("mul", lambda b, x, y: x * y, np.multiply),
    _binary("div", _divide, _reference_divide, cost=4),
    _binary("pow", math.power, np.power, Domain.FLOAT, ulps=8, cost=60),
    _binary("maximum", lambda b, x, y: b.maximum(x, y), np.maximum),
    _binary("minimum", lambda b, x, y: b.minimum(x, y), np.minimum),
    _binary("equal", lambda b, x, y: b.compare("eq", x, y), np.equal, Domain.ANY, result=Result.BOOL),
    _binary("less", lambda b, x, y: x < y, np.less, result=Result.BOOL),
    _binary("less_or_equal", lambda b, x, y: x <= y, np.less_equal, result=Result.BOOL),
    _binary("greater", lambda b, x, y: x > y, np.greater, result=Result.BOOL),
    _binary("greater_or_equal", lambda b, x, y: x >= y, np.greater_equal, result=Result.BOOL),
    PointwiseFunction(
        name="clip", arity=1, emit=_emit_clip, reference=_reference_clip, cost=2,
    ),
    PointwiseFunction(
        name="where", arity=3, domain=Domain.ANY, selector=True,
        emit=lambda b, x, params: b.select(x[0], x[1], x[2]),
        reference=lambda c, x, y, params: np.where(c, x, y),
    ),
)  # fmt: skip

FUNCTIONS: Mapping[str, PointwiseFunction] = {f.name: f for f in _TABLE}
