"""Elementary functions as straight-line code over scalars or vectors.

Float32 functions are polynomial approximations emitted in line, the same operations for one lane as for
sixteen, so a value does not depend on its place in a vector. Float64 functions call the C library lane by
lane. Half-width types are computed in float32 by the callers. Trigonometric and hyperbolic functions stand
in `emit.trigonometry`.

Sources: range reduction and minimax coefficients after Cephes (S. Moshier, "Methods and Programs for
Mathematical Functions", 1989) and W. J. Cody and W. Waite, "Software Manual for the Elementary Functions"
(1980).
"""

from __future__ import annotations

from collections.abc import Sequence

from plumbline.contracts.tensors import DType
from plumbline.kernels.emit.ir import FunctionBuilder, Operand, Value

__all__ = [
    "any_lane",
    "at_least",
    "at_most",
    "erf",
    "exp",
    "expm1",
    "integer_power",
    "library",
    "log",
    "log1p",
    "polynomial",
    "power",
    "sigmoid",
    "softplus",
    "tanh",
]

_EXP_TAIL = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 0.5)
"""(e**x - 1 - x) / x**2 near zero, highest power first."""

_MAGIC, _MAGIC_BITS = 12582912.0, 0x4B400000
"""1.5 * 2**23: adding it rounds a float32 to a whole number, which then stands in the low bits."""


def library(b: FunctionBuilder, name: str, *operands: Value) -> Value:
    """Call a C library function for each lane, in a loop over a small stack array."""
    first = operands[0]
    if first.lanes == 1:
        return b.call_external(name, *operands)
    arrays = [b.stack_array(first.dtype, first.lanes) for _ in operands]
    for array, operand in zip(arrays, operands, strict=True):
        b.store(operand, array)
    with b.range(0, first.lanes) as lane:
        scalars = [b.load(array, first.dtype, lane) for array in arrays]
        b.store(b.call_external(name, *scalars), arrays[0], lane)
    return b.load(arrays[0], first.dtype, 0, lanes=first.lanes)


def any_lane(b: FunctionBuilder, condition: Value) -> Value:
    """Whether a condition holds in at least one lane."""
    if condition.lanes == 1:
        return condition
    name = f"llvm.vector.reduce.or.v{condition.lanes}i1"
    b.module.declare(name, f"declare i1 @{name}({condition.type})")
    return b.emit(f"call i1 @{name}({condition.type} {condition.text})", DType.BOOL)


def at_least(b: FunctionBuilder, x: Value, low: Operand) -> Value:
    """`x` raised to `low`; NaN in `x` stays. One instruction where the machine has a float maximum."""
    return b.select(b.compare("gt", low, x), low, x)


def at_most(b: FunctionBuilder, x: Value, high: Operand) -> Value:
    """`x` lowered to `high`; NaN in `x` stays. One instruction where the machine has a float minimum."""
    return b.select(b.compare("lt", high, x), high, x)


def polynomial(b: FunctionBuilder, x: Value, coefficients: Sequence[float]) -> Value:
    """Horner's rule with fused multiply-add, highest power first."""
    result = b.const(x.dtype, coefficients[0], x.lanes)
    for coefficient in coefficients[1:]:
        result = b.fma(result, x, b.const(x.dtype, coefficient, x.lanes))
    return result


def exp(b: FunctionBuilder, x: Value) -> Value:
    """e**x, float32 error under 2 units in the last place; overflow gives inf, NaN stays NaN."""
    if x.dtype is DType.FLOAT64:
        return library(b, "exp", x)
    clamped = at_most(b, at_least(b, x, -104.0), 89.0)
    shifted = b.fma(clamped, 1.4426950408889634, b.const(x.dtype, _MAGIC, x.lanes))
    n = shifted - _MAGIC
    r = b.fma(n, -0.693359375, clamped)
    r = b.fma(n, 2.12194440e-4, r)
    p = polynomial(b, r, (*_EXP_TAIL, 1.0, 1.0))
    return _scale_by_power_of_two(b, p, b.bitcast(shifted, DType.INT32) - _MAGIC_BITS)


def _scale_by_power_of_two(b: FunctionBuilder, x: Value, n: Value) -> Value:
    """x * 2**n in two exact steps, so that results near the limits of the format stay right."""
    half = b.shift_right(n, 1)
    return x * _power_of_two(b, half) * _power_of_two(b, n - half)


def _power_of_two(b: FunctionBuilder, exponent: Value) -> Value:
    return b.bitcast(b.shift_left(exponent + 127, 23), DType.FLOAT32)


def expm1(b: FunctionBuilder, x: Value) -> Value:
    """e**x - 1 without cancellation near zero, float32 error under 4 units in the last place."""
    if x.dtype is DType.FLOAT64:
        return library(b, "expm1", x)
    near = b.fma(polynomial(b, x, _EXP_TAIL) * x, x, x)
    return b.select(b.compare("lt", b.absolute(x), 0.34), near, exp(b, x) - 1.0)


def log(b: FunctionBuilder, x: Value) -> Value:
    """Natural logarithm, float32 error under 2 units in the last place; log(0) = -inf, log(x < 0) = NaN."""
    if x.dtype is DType.FLOAT64:
        return library(b, "log", x)
    tiny = b.compare("lt", x, 1.17549435e-38)
    scaled = b.select(tiny, x * 8388608.0, x)
    bits = b.bitcast(scaled, DType.INT32)
    zero = b.const(DType.FLOAT32, 0.0, x.lanes)
    exponent = b.cast(b.shift_right(bits, 23) - 126, DType.FLOAT32) - b.select(tiny, 23.0, zero)
    mantissa = b.bitcast((bits & 0x007FFFFF) | 0x3F000000, DType.FLOAT32)
    low = b.compare("lt", mantissa, 0.707106781186547524)
    exponent = exponent - b.select(low, 1.0, zero)
    m = b.select(low, mantissa + mantissa, mantissa) - 1.0
    z = m * m
    series = (
        7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
        -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
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


def log1p(b: FunctionBuilder, x: Value) -> Value:
    """log(1 + x) without cancellation near zero: the rounding error of `1 + x` is put back to first order."""
    if x.dtype is DType.FLOAT64:
        return library(b, "log1p", x)
    u = x + 1.0
    plain = log(b, u)
    corrected = plain + (x - (u - 1.0)) / u
    special = b.compare("eq", u, 0.0) | b.compare("eq", u, float("inf"))
    return b.select(special, plain, corrected)


def tanh(b: FunctionBuilder, x: Value) -> Value:
    """Hyperbolic tangent: odd polynomial under 0.625, else 1 - 2 / (exp(2|x|) + 1)."""
    if x.dtype is DType.FLOAT64:
        return library(b, "tanh", x)
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


def softplus(b: FunctionBuilder, x: Value) -> Value:
    """log(1 + exp(x)) as max(x, 0) + log1p(exp(-|x|)): neither overflow nor cancellation."""
    return at_least(b, x, 0.0) + log1p(b, exp(b, b.neg(b.absolute(x))))


ERF_LIMIT = 3.925
"""Beyond this the error function is 1 to float32 precision."""
ERF_NUMERATOR = (
    2.045960912994138e-06, 0.000284829044102812, 0.0037722574032238113, 0.05276833197267652,
    0.19058797685771572, 1.1283791458242312,
)  # fmt: skip
ERF_DENOMINATOR = (
    3.804634384493161e-05, 0.0011637728970227334, 0.014982604761156919, 0.11418015218731721,
    0.5022369287659992, 1.0,
)  # fmt: skip


def erf(b: FunctionBuilder, x: Value) -> Value:
    """Error function, relative float32 error under 4e-7: x P(x^2) / Q(x^2) with both of degree 5.

    The coefficients are a fit of our own: linearised rational least squares, reweighted towards the largest
    relative error on (0, 3.925].
    """
    if x.dtype is DType.FLOAT64:
        return library(b, "erf", x)
    inside = b.select(x < -ERF_LIMIT, -ERF_LIMIT, x)
    inside = b.select(inside > ERF_LIMIT, ERF_LIMIT, inside)
    z = inside * inside
    result = inside * polynomial(b, z, ERF_NUMERATOR) / polynomial(b, z, ERF_DENOMINATOR)
    result = b.select(result > 1.0, 1.0, result)
    result = b.select(result < -1.0, -1.0, result)
    return b.select(x >= ERF_LIMIT, 1.0, b.select(x <= -ERF_LIMIT, -1.0, result))


def power(b: FunctionBuilder, x: Value, y: Value) -> Value:
    """x**y by the C library; integer powers of negative bases and the limits behave as IEEE 754 says."""
    return library(b, "pow" if x.dtype is DType.FLOAT64 else "powf", x, y)


def integer_power(b: FunctionBuilder, x: Value, y: Value) -> Value:
    """x**y of integers by squaring, wrapping on overflow.

    A negative exponent gives the exact quotient truncated towards zero: +-1 for the bases +-1, else 0.
    """
    bits = x.dtype.size_bytes * 8
    one = b.const(x.dtype, 1, x.lanes)
    result, square, rest = one, x, y
    trip = b.reduce(0, bits, [result, square, rest], lambda _, v: _squaring_step(b, v))
    result = trip[0]
    if not x.dtype.is_signed:
        return result
    unit = b.compare("eq", x, 1) | b.compare("eq", x, -1)
    odd = b.compare("ne", y & 1, 0)
    inverse = b.select(unit, b.select(odd, x, one), b.const(x.dtype, 0, x.lanes))
    return b.select(b.compare("lt", y, 0), inverse, result)


def _squaring_step(b: FunctionBuilder, values: Sequence[Value]) -> list[Value]:
    result, square, rest = values
    taken = b.select(b.compare("ne", rest & 1, 0), result * square, result)
    return [taken, square * square, b.shift_right(rest, 1)]
