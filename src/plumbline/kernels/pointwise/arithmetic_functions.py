"""Arithmetic of numbers: sums, products, quotients, remainders, extremes, rounding.

Integers wrap. A zero integer divisor gives 0, and the most negative integer divided by -1 wraps to itself:
nothing traps.
"""

from __future__ import annotations

import numpy as np

from plumbline.kernels.emit import math
from plumbline.kernels.emit.ir import FunctionBuilder, Value
from plumbline.kernels.pointwise.definition import (
    Domain,
    Params,
    PointwiseFunction,
    binary,
    precision_of,
    unary,
)

__all__ = ["TABLE"]


def _is_float(x: np.ndarray) -> bool:
    return bool(np.issubdtype(x.dtype, np.floating))


def _safe_divisor(b: FunctionBuilder, y: Value) -> Value:
    """The divisor with 0 and -1 replaced by 1, the two that could trap."""
    unsafe = b.compare("eq", y, 0)
    if y.dtype.is_signed:
        unsafe = unsafe | b.compare("eq", y, -1)
    return b.select(unsafe, 1, y)


def _divide(b: FunctionBuilder, x: Value, y: Value) -> Value:
    if x.dtype.is_float:
        return x / y
    quotient = x / _safe_divisor(b, y)
    if x.dtype.is_signed:
        quotient = b.select(b.compare("eq", y, -1), -x, quotient)
    return b.select(b.compare("eq", y, 0), 0, quotient)


def _reference_divide(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    if _is_float(x):
        return np.asarray(x / y)
    x, y = np.broadcast_arrays(x, y)
    quotient = [_truncated(int(a), int(c)) for a, c in zip(x.ravel(), y.ravel(), strict=True)]
    return _wrapped(quotient, x)


def _truncated(dividend: int, divisor: int) -> int:
    if divisor == 0:
        return 0
    magnitude = abs(dividend) // abs(divisor)
    return magnitude if (dividend < 0) == (divisor < 0) else -magnitude


def _wrapped(numbers: list[int], like: np.ndarray) -> np.ndarray:
    """Python integers as an array of the type of `like`, keeping the low bits."""
    bits = like.dtype.itemsize * 8
    low = np.array([n & (2**bits - 1) for n in numbers], np.uint64)
    return low.astype(f"uint{bits}").view(like.dtype).reshape(like.shape)


def _floor_mod(b: FunctionBuilder, x: Value, y: Value) -> Value:
    """Remainder with the sign of the divisor."""
    r = _trunc_mod(b, x, y)
    if not x.dtype.is_signed:
        return r
    if x.dtype.is_float:
        differs = b.compare("ne", r, 0.0) & (b.compare("lt", r, 0.0) ^ b.compare("lt", y, 0.0))
        fixed = b.select(differs, r + y, r)
        return b.select(b.compare("eq", fixed, 0.0), b.intrinsic("llvm.copysign", fixed, y), fixed)
    differs = b.compare("ne", r, 0) & b.compare("lt", r ^ y, 0)
    return b.select(differs, r + y, r)


def _trunc_mod(b: FunctionBuilder, x: Value, y: Value) -> Value:
    """Remainder with the sign of the dividend."""
    if x.dtype.is_float:
        return math.library(b, "fmod" if x.dtype.size_bytes == 8 else "fmodf", x, y)
    remainder = b.rem(x, _safe_divisor(b, y))
    return b.select(b.compare("eq", y, 0), 0, remainder)


def _emit_mod(b: FunctionBuilder, x: tuple[Value, ...], params: Params) -> Value:
    return (_trunc_mod if params.get("fmod") else _floor_mod)(b, x[0], x[1])


def _reference_mod(x: np.ndarray, y: np.ndarray, params: Params) -> np.ndarray:
    return np.asarray(np.fmod(x, y) if params.get("fmod") else np.mod(x, y))


def _power(b: FunctionBuilder, x: Value, y: Value) -> Value:
    return math.power(b, x, y) if x.dtype.is_float else math.integer_power(b, x, y)


def _reference_power(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    if _is_float(x):
        return np.asarray(np.power(x, y))
    x, y = np.broadcast_arrays(x, y)
    return _wrapped([_integer_power(int(a), int(n)) for a, n in zip(x.ravel(), y.ravel(), strict=True)], x)


def _integer_power(base: int, exponent: int) -> int:
    if exponent >= 0:
        return pow(base, exponent, 2**64)
    if base in (1, -1):
        return base if exponent % 2 else 1
    return 0


def _emit_power_by(b: FunctionBuilder, x: tuple[Value, ...], params: Params) -> Value:
    """Small whole exponents by squaring, halves by the square root, the rest by the C library. The
    exponent is rounded to the compute type first."""
    base, exponent = x[0], float(params["exponent"])
    if exponent.is_integer() and 1 <= abs(exponent) <= 16:
        result = _whole_power(base, int(abs(exponent)))
        return result if exponent > 0 else 1.0 / result
    if abs(exponent) == 0.5:
        root = b.sqrt(b.add(base, 0.0))
        result = b.select(b.compare("eq", base, float("-inf")), float("inf"), root)
        return result if exponent > 0 else 1.0 / result
    return math.power(b, base, b.const(base.dtype, exponent, base.lanes))


def _whole_power(x: Value, exponent: int) -> Value:
    if exponent == 1:
        return x
    half = _whole_power(x, exponent // 2)
    return half * half * x if exponent % 2 else half * half


def _emit_clip(b: FunctionBuilder, x: tuple[Value, ...], params: Params) -> Value:
    value = x[0]
    if params.get("low") is not None:
        value = math.at_least(b, value, params["low"])
    return value if params.get("high") is None else math.at_most(b, value, params["high"])


def _reference_clip(x: np.ndarray, params: Params) -> np.ndarray:
    low, high = params.get("low"), params.get("high")
    value = x if low is None else np.maximum(x, np.array(low).astype(x.dtype))
    return value if high is None else np.asarray(np.minimum(value, np.array(high).astype(x.dtype)))


def _sign(b: FunctionBuilder, x: Value) -> Value:
    if not x.dtype.is_signed:
        return b.select(b.compare("gt", x, 0), 1, x)
    below = b.select(b.compare("lt", x, 0), b.const(x.dtype, -1, x.lanes), x)
    return b.select(b.compare("gt", x, 0), 1, below)


def _rounding(name: str) -> PointwiseFunction:
    intrinsic = {"round": "llvm.roundeven"}.get(name, f"llvm.{name}")
    reference = {"ceil": np.ceil, "floor": np.floor, "trunc": np.trunc, "round": np.rint}[name]
    return unary(name, lambda b, x: b.intrinsic(intrinsic, x), reference, keeps_zero=True)


TABLE = (
    unary("neg", lambda b, x: -x, np.negative, Domain.NUMBER, keeps_zero=True),
    unary("abs", lambda b, x: b.absolute(x), np.abs, Domain.NUMBER, keeps_zero=True),
    unary("sign", _sign, np.sign, Domain.NUMBER, keeps_zero=True),
    unary("reciprocal", lambda b, x: 1.0 / x, lambda x: 1.0 / x, ulps=1, cost=4),
    *(_rounding(name) for name in ("ceil", "floor", "trunc", "round")),
    binary("add", lambda b, x, y: x + y, np.add),
    binary("sub", lambda b, x, y: x - y, np.subtract),
    binary("mul", lambda b, x, y: x * y, np.multiply),
    binary("div", _divide, _reference_divide, cost=4),
    binary("pow", _power, _reference_power, ulps=8, cost=60),
    binary("maximum", lambda b, x, y: b.maximum(x, y), np.maximum),
    binary("minimum", lambda b, x, y: b.minimum(x, y), np.minimum),
    PointwiseFunction(
        name="power_by", arity=1, domain=Domain.FLOAT, emit=_emit_power_by, cost=8,
        precision=precision_of(16),
        reference=lambda x, params: np.power(x, np.full(x.shape, float(params["exponent"]))),
    ),
    PointwiseFunction(name="mod", arity=2, emit=_emit_mod, reference=_reference_mod, cost=20),
    PointwiseFunction(name="clip", arity=1, emit=_emit_clip, reference=_reference_clip, cost=2),
)  # fmt: skip
