"""Elementary functions as straight-line code over scalars or vectors.

Float32 functions are polynomial approximations emitted in line, the same operations for one lane as for sixteen, so
a value does not depend on its place in a vector. Float64 functions call the C library lane by lane.
Half-width types are computed in float32 by the callers.

Sources: range reduction and minimax coefficients after Cephes (S. Moshier, "Methods and Programs for Mathematical
Functions", 1989) and W. J. Cody and W. Waite, "Software Manual for the Elementary Functions" (1980).
"""

from __future__ import annotations

from collections.abc import Sequence

from plumbline.contracts.tensors import DType
from plumbline.kernels.emit.ir import FunctionBuilder, Value

__all__ = ["erf", "exp", "log", "polynomial", "power", "sigmoid", "tanh"]


def polynomial(b: FunctionBuilder, x: Value, coefficients: Sequence[float]) -> Value:
    """Horner's rule with fused multiply-add, highest power first."""
    result = b.const(x.dtype, coefficients[0], x.lanes)
    for coefficient in coefficients[1:]:
        result = b.fma(result, x, b.const(x.dtype, coefficient, x.lanes))
    return result


def exp(b: FunctionBuilder, x: Value) -> Value:
    """e**x, float32 error under 2 units in the last place; overflow gives inf, NaN stays NaN."""
    if x.dtype is DType.FLOAT64:
        return b.call_external("exp", x)
    clamped = b.minimum(b.maximum(x, -104.0), 89.0)
    n = b.intrinsic("llvm.roundeven", clamped * 1.4426950408889634)
    r = b.fma(n, -0.693359375, clamped)
    r = b.fma(n, 2.12194440e-4, r)
    series = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 0.5, 1.0, 1.0)
    p = polynomial(b, r, series)
    return _scale_by_power_of_two(b, p, n)


def _scale_by_power_of_two(b: FunctionBuilder, x: Value, n: Value) -> Value:
    """x * 2**n in two exact steps, so that results near the limits of the format stay right."""
    whole = b.cast(n, DType.INT32)
    half = b.shift_right(whole, 1)
    return x * _power_of_two(b, half) * _power_of_two(b, whole - half)


def _power_of_two(b: FunctionBuilder, exponent: Value) -> Value:
    return b.bitcast(b.shift_left(exponent + 127, 23), DType.FLOAT32)


def log(b: FunctionBuilder, x: Value) -> Value:
    """Natural logarithm, float32 error under 2 units in the last place; log(0) = -inf, log(x < 0) = NaN."""
    if x.dtype is DType.FLOAT64:
        return b.call_external("log", x)
    tiny = b.compare("lt", x, 1.17549435e-38)
    scaled = b.select(tiny, x * 8388608.0, x)
    bits = b.bitcast(scaled, DType.INT32)
    exponent = b.cast(b.shift_right(bits, 23) - 126, DType.FLOAT32) - b.select(tiny, 23.0, b.const(DType.FLOAT32, 0.0, x.lanes))
    mantissa = b.bitcast((bits & 0x007FFFFF) | 0x3F000000, DType.FLOAT32)
    low = b.compare("lt", mantissa, 0.707106781186547524)
    exponent = exponent - b.select(low, 1.0, b.const(DType.FLOAT32, 0.0, x.lanes))
    m = b.select(low, mantissa + mantissa, mantissa) - 1.0
    z = m * m
    series = (
        7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1, -1.6668057665e-1,
        2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
    )  # fmt: skip
    y = polynomial(b, m, series) * m * z
    y = b.fma(exponent, -2.12194440e-4, y)
    y = b.fma(z, -0.5, y)
    result = b.fma(exponent, 0.693359375, m + y)
    infinite = b.compare("eq", x, float("inf"))
    result = b.select(infinite, x, result)
    result = b.select(b.compare("eq", x, 0.0), float("-inf"), result)
    invalid = b.compare("lt", x, 0.0) | b.is_nan(x)
    return b.select(invalid, float("nan"), result)


def tanh(b: FunctionBuilder, x: Value) -> Value:
    """Hyperbolic tangent: odd polynomial under 0.625, else 1 - 2 / (exp(2|x|) + 1)."""
    if x.dtype is DType.FLOAT64:
        return b.call_external("tanh", x)
    magnitude = b.absolute(x)
    z = x * x
    series = (-5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1)
    small = b.fma(polynomial(b, z, series) * z, x, x)
    large = 1.0 - 2.0 / (exp(b, magnitude + magnitude) + 1.0)
    signed = b.intrinsic("llvm.copysign", large, x)
    result = b.select(b.compare("lt", magnitude, 0.625), small, signed)
    return b.select(b.is_nan(x), x, result)


def sigmoid(b: FunctionBuilder, x: Value) -> Value:
    """1 / (1 + exp(-x)); no overflow for either sign."""
    return 1.0 / (exp(b, b.neg(x)) + 1.0)


def erf(b: FunctionBuilder, x: Value) -> Value:
    """Error function, absolute float32 error under 3e-7."""
    if x.dtype is DType.FLOAT64:
        return b.call_external("erf", x)
    magnitude = b.absolute(x)
    t = 1.0 / b.fma(magnitude, 0.3275911, b.const(x.dtype, 1.0, x.lanes))
    series = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)
    tail = polynomial(b, t, series) * t * exp(b, b.neg(magnitude * magnitude))
    large = b.intrinsic("llvm.copysign", 1.0 - tail, x)
    z = x * x
    near = (-8.010193625184903e-4, 5.188327685732524e-3, -2.685381193529856e-2, 1.128358514861418e-1,
            -3.761262582423300e-1, 1.128379165726710)  # fmt: skip
    small = polynomial(b, z, near) * x
    return b.select(b.compare("lt", magnitude, 0.5), small, large)


def power(b: FunctionBuilder, x: Value, y: Value) -> Value:
    """x**y by the C library; integer powers of negative bases and the limits behave as IEEE 754 says."""
    return b.call_external("pow" if x.dtype is DType.FLOAT64 else "powf", x, y)
