"""Narrowing of floats to half-width types with one rounding, in integer arithmetic where the machine has no
instruction for it.

bfloat16 lives in registers as its 16 bits and is never an operand of float arithmetic. LLVM lowers some
narrowings to calls into a compiler runtime that the executable does not link; these sequences need nothing
but the instructions of the target.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from plumbline.contracts.tensors import DType

if TYPE_CHECKING:
    from plumbline.kernels.emit.ir import FunctionBuilder, Value

__all__ = ["bfloat16_to_float32", "float32_to_bfloat16", "float64_to_float32_odd", "float_to_integer"]


def bfloat16_to_float32(b: FunctionBuilder, x: Value) -> Value:
    """The float32 with the same number: bfloat16 bits are its upper half."""
    bits = b.cast(b.bitcast(x, DType.UINT16), DType.UINT32)
    return b.bitcast(b.shift_left(bits, 16), DType.FLOAT32)


def float32_to_bfloat16(b: FunctionBuilder, x: Value) -> Value:
    """Round float32 to bfloat16, ties to even; NaN stays a quiet NaN, overflow gives infinity."""
    bits = b.bitcast(x, DType.UINT32)
    odd = b.shift_right(bits, 16) & 1
    rounded = b.shift_right(bits + (odd + 0x7FFF), 16)
    quiet = b.shift_right(bits, 16) | 0x0040
    return b.bitcast(b.cast(b.select(b.is_nan(x), quiet, rounded), DType.UINT16), DType.BFLOAT16)


def float64_to_float32_odd(b: FunctionBuilder, x: Value, nearest: Value) -> Value:
    """Round float64 to float32 such that rounding again to a half-width type gives the bits of one rounding.

    The value is truncated and its last bit set when anything was lost (S. Boldo and G. Melquiond, "When
    double rounding is odd", 2005). `nearest` is `x` rounded to float32 the usual way.
    """
    back = b.cast(nearest, DType.FLOAT64)
    inexact = b.compare("lt", back, x) | b.compare("gt", back, x)
    away = b.compare("gt", b.absolute(back), b.absolute(x))
    bits = b.bitcast(nearest, DType.UINT32)
    truncated = b.select(away, bits - 1, bits)
    return b.bitcast(b.select(inexact, truncated | 1, bits), DType.FLOAT32)


def float_to_integer(b: FunctionBuilder, x: Value, dtype: DType) -> Value:
    """Truncate float32 or float64 to an integer type, held inside its limits; NaN becomes 0.

    LLVM's own saturating conversion is scalar on some vectors; this is the same function in vectors.
    """
    bits = dtype.size_bytes * 8 - (1 if dtype.is_signed else 0)
    mantissa = 53 if x.dtype is DType.FLOAT64 else 24
    low = -(2.0**bits) if dtype.is_signed else 0.0
    high = 2.0**bits - (2.0 ** (bits - mantissa) if bits > mantissa else 1.0)
    number = b.select(b.is_nan(x), 0.0, x)
    number = b.select(b.compare("lt", number, low), low, number)
    held = b.select(b.compare("gt", number, high), high, number)
    wide = DType.INT32 if dtype.size_bytes < 4 else dtype
    opcode, kind = "fptosi" if wide.is_signed else "fptoui", b.const(wide, 0, x.lanes).type
    whole = b.cast(b.emit(f"{opcode} {x.type} {held.text} to {kind}", wide, x.lanes), dtype)
    if bits <= mantissa:
        return whole
    return b.select(b.compare("gt", number, high), 2**bits - 1, whole)
