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

__all__ = ["bfloat16_to_float32", "float32_to_bfloat16", "float64_to_float32_odd"]


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
