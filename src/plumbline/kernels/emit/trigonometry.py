"""Trigonometric and hyperbolic functions and their inverses, for scalars or vectors.

Float32 in line, float64 by the C library. Sources as in `emit.math`.
"""

from __future__ import annotations

from collections.abc import Callable

from plumbline.contracts.tensors import DType
from plumbline.kernels.emit import math
from plumbline.kernels.emit.ir import FunctionBuilder, Value

__all__ = ["acos", "acosh", "asin", "asinh", "atan", "atanh", "cos", "cosh", "sin", "sinh", "tan"]

_LARGE = 1.0e5
"""Above this a float32 angle is reduced by the C library: the quadrant no longer fits our reduction."""
_PI, _HALF_PI, _QUARTER_PI = 3.141592653589793, 1.5707963267948966, 0.7853981633974483
_LOG_2 = 0.6931471805599453


def sin(b: FunctionBuilder, x: Value) -> Value:
    """Sine, float32 error under 2 units in the last place for every angle."""
    return _circular(b, x, "sin", lambda s, c, quadrant: _rotate(b, s, c, quadrant))


def cos(b: FunctionBuilder, x: Value) -> Value:
    """Cosine, float32 error under 2 units in the last place for every angle."""
    return _circular(b, x, "cos", lambda s, c, quadrant: _rotate(b, s, c, quadrant + 1))


def tan(b: FunctionBuilder, x: Value) -> Value:
    """Tangent, float32 error under 4 units in the last place."""

    def ratio(s: Value, c: Value, quadrant: Value) -> Value:
        odd = b.compare("ne", quadrant & 1, 0)
        return b.select(odd, b.neg(c), s) / b.select(odd, s, c)

    return _circular(b, x, "tan", ratio)


def _circular(
    b: FunctionBuilder, x: Value, name: str, combine: Callable[[Value, Value, Value], Value]
) -> Value:
    """Reduce to [-pi/4, pi/4], combine sine and cosine there; lanes with huge angles go to the C library."""
    if x.dtype is DType.FLOAT64:
        return math.library(b, name, x)
    large = b.compare("gt", b.absolute(x), _LARGE)
    quiet = b.select(large, 0.0, x)
    n = b.intrinsic("llvm.roundeven", quiet * 0.6366197723675814)
    r = b.fma(n, -1.5707963705062866, quiet)
    r = b.fma(n, 4.371139000186241e-08, r)
    r = b.fma(n, 1.7151245100058819e-15, r)
    z = r * r
    s = b.fma(math.polynomial(b, z, (-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1)) * z, r, r)
    near = math.polynomial(b, z, (2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2, -0.5))
    c = b.fma(near, z, b.const(x.dtype, 1.0, x.lanes))
    result = b.variable(x.dtype, combine(s, c, b.cast(n, DType.INT32)), x.lanes)
    with b.when(math.any_lane(b, large)):
        result.set(b.select(large, math.library(b, name + "f", x), result.get()))
    return result.get()


def _rotate(b: FunctionBuilder, s: Value, c: Value, quadrant: Value) -> Value:
    chosen = b.select(b.compare("ne", quadrant & 1, 0), c, s)
    return b.select(b.compare("ne", quadrant & 2, 0), b.neg(chosen), chosen)


def asin(b: FunctionBuilder, x: Value) -> Value:
    """Arc sine; NaN outside [-1, 1]."""
    if x.dtype is DType.FLOAT64:
        return math.library(b, "asin", x)
    return b.intrinsic("llvm.copysign", _asin_of_magnitude(b, b.absolute(x)), x)


def _asin_of_magnitude(b: FunctionBuilder, a: Value) -> Value:
    """Arc sine of a >= 0: directly under 0.5, above by pi/2 - 2 asin(sqrt((1 - a) / 2))."""
    upper = b.compare("gt", a, 0.5)
    z = b.select(upper, (1.0 - a) * 0.5, a * a)
    root = b.select(upper, b.sqrt(z), a)
    series = (4.2163199048e-2, 2.4181311049e-2, 4.5470025998e-2, 7.4953002686e-2, 1.6666752422e-1)
    p = b.fma(math.polynomial(b, z, series) * z, root, root)
    return b.select(upper, _HALF_PI - (p + p), p)


def acos(b: FunctionBuilder, x: Value) -> Value:
    """Arc cosine without cancellation near 1; NaN outside [-1, 1]."""
    if x.dtype is DType.FLOAT64:
        return math.library(b, "acos", x)
    a = b.absolute(x)
    outer = 2.0 * asin(b, b.sqrt((1.0 - a) * 0.5))
    signed = b.select(b.compare("lt", x, 0.0), _PI - outer, outer)
    return b.select(b.compare("gt", a, 0.5), signed, _HALF_PI - asin(b, x))


def atan(b: FunctionBuilder, x: Value) -> Value:
    """Arc tangent: the argument is turned by pi/2 or pi/4 into [-0.4142, 0.4142]."""
    if x.dtype is DType.FLOAT64:
        return math.library(b, "atan", x)
    a = b.absolute(x)
    steep, middle = b.compare("gt", a, 2.414213562373095), b.compare("gt", a, 0.4142135623730950)
    t = b.select(steep, -1.0 / a, b.select(middle, (a - 1.0) / (a + 1.0), a))
    zero = b.const(x.dtype, 0.0, x.lanes)
    base = b.select(steep, _HALF_PI, b.select(middle, _QUARTER_PI, zero))
    z = t * t
    series = (8.05374449538e-2, -1.38776856032e-1, 1.99777106478e-1, -3.33329491539e-1)
    result = base + b.fma(math.polynomial(b, z, series) * z, t, t)
    return b.intrinsic("llvm.copysign", result, x)


def sinh(b: FunctionBuilder, x: Value) -> Value:
    """Hyperbolic sine from expm1; the last binade goes by exp(a/2)**2 / 2."""
    if x.dtype is DType.FLOAT64:
        return math.library(b, "sinh", x)
    a = b.absolute(x)
    e = math.expm1(b, a)
    near = 0.5 * (e + e / (e + 1.0))
    half = math.exp(b, a * 0.5)
    far = (0.5 * half) * half
    return b.intrinsic("llvm.copysign", b.select(b.compare("gt", a, 60.0), far, near), x)


def cosh(b: FunctionBuilder, x: Value) -> Value:
    """Hyperbolic cosine from exp; the last binade goes by exp(a/2)**2 / 2."""
    if x.dtype is DType.FLOAT64:
        return math.library(b, "cosh", x)
    a = b.absolute(x)
    e = math.exp(b, a)
    near = 0.5 * (e + 1.0 / e)
    half = math.exp(b, a * 0.5)
    far = (0.5 * half) * half
    return b.select(b.compare("gt", a, 60.0), far, near)


def asinh(b: FunctionBuilder, x: Value) -> Value:
    """Inverse hyperbolic sine: log1p(a + a^2 / (1 + sqrt(a^2 + 1)))."""
    if x.dtype is DType.FLOAT64:
        return math.library(b, "asinh", x)
    a = b.absolute(x)
    square = a * a
    near = math.log1p(b, a + square / (b.sqrt(square + 1.0) + 1.0))
    far = math.log(b, a) + _LOG_2
    return b.intrinsic("llvm.copysign", b.select(b.compare("gt", a, 1.0e9), far, near), x)


def acosh(b: FunctionBuilder, x: Value) -> Value:
    """Inverse hyperbolic cosine: log1p(t + sqrt(2t + t^2)) with t = x - 1; NaN under 1."""
    if x.dtype is DType.FLOAT64:
        return math.library(b, "acosh", x)
    t = x - 1.0
    near = math.log1p(b, t + b.sqrt(b.fma(t, t, t + t)))
    far = math.log(b, x) + _LOG_2
    result = b.select(b.compare("gt", x, 1.0e9), far, near)
    return b.select(b.compare("lt", x, 1.0), float("nan"), result)


def atanh(b: FunctionBuilder, x: Value) -> Value:
    """Inverse hyperbolic tangent: log1p(2a / (1 - a)) / 2; infinite at +-1, NaN outside."""
    if x.dtype is DType.FLOAT64:
        return math.library(b, "atanh", x)
    a = b.absolute(x)
    return b.intrinsic("llvm.copysign", 0.5 * math.log1p(b, (a + a) / (1.0 - a)), x)
