"""Conversions between element types, and the identity.

`cast` follows C where C is defined. Float to integer truncates, saturates at the limits of the integer
type and turns NaN into 0; float to narrower float rounds once, ties to even; integer to narrower integer
keeps the low bits.
"""

from __future__ import annotations

import numpy as np

from plumbline.contracts.tensors import DType
from plumbline.kernels.emit.ir import FunctionBuilder, Value
from plumbline.kernels.pointwise.definition import Domain, Params, PointwiseFunction, Result, unary

__all__ = ["TABLE", "round_to_bfloat16", "saturated"]


def round_to_bfloat16(values: np.ndarray) -> np.ndarray:
    """Floats rounded once to bfloat16, ties to even, given as float32."""
    with np.errstate(all="ignore"):
        wide = np.asarray(values, np.float64)
        near = wide.astype(np.float32)
    bits = near.view(np.uint32) if near.ndim else near.reshape(1).view(np.uint32).reshape(())
    back = near.astype(np.float64)
    inexact, away = (back != wide) & ~np.isnan(wide), np.abs(back) > np.abs(wide)
    odd = np.where(inexact, np.where(away, bits - np.uint32(1), bits) | np.uint32(1), bits).astype(np.uint64)
    rounded = (odd + np.uint64(0x7FFF) + ((odd >> np.uint64(16)) & np.uint64(1))) & np.uint64(0xFFFF0000)
    result = rounded.astype(np.uint32).reshape(near.shape)
    shaped = np.ascontiguousarray(result).view(np.float32).reshape(near.shape)
    return np.where(np.isnan(near), np.float32("nan"), shaped).astype(np.float32)


def _emit_cast(b: FunctionBuilder, x: tuple[Value, ...], params: Params) -> Value:
    return b.cast(x[0], DType(params["to"]))


def _reference_cast(x: np.ndarray, params: Params) -> np.ndarray:
    to = DType(params["to"])
    if to is DType.BOOL:
        return np.asarray(x != 0)
    if to is DType.BFLOAT16:
        return round_to_bfloat16(x)
    if to.is_float or not np.issubdtype(x.dtype, np.floating):
        return x.astype(to.numpy)
    return saturated(x, to)


def saturated(x: np.ndarray, to: DType) -> np.ndarray:
    """Floats truncated to integers, held inside the limits of the type; NaN becomes 0."""
    limits = np.iinfo(to.numpy)
    whole = np.trunc(np.where(np.isnan(x), 0.0, x))
    high, low = whole >= float(limits.max), whole <= float(limits.min)
    inside = np.where(high | low, 0.0, whole).astype(to.numpy)
    return np.asarray(np.where(high, limits.max, np.where(low, limits.min, inside))).astype(to.numpy)


def _emit_bit_cast(b: FunctionBuilder, x: tuple[Value, ...], params: Params) -> Value:
    to, value = DType(params["to"]), x[0]
    if value.dtype is to:
        return value
    octets = b.cast(value, DType.UINT8) if value.dtype is DType.BOOL else value
    if to is DType.BOOL:
        return b.cast(b.bitcast(octets, DType.UINT8), to)
    return b.bitcast(octets, to)


def _reference_bit_cast(x: np.ndarray, params: Params) -> np.ndarray:
    """Bits under another type. bfloat16 is float32 here: its bits are the upper half."""
    to = DType(params["to"])
    bits = np.ascontiguousarray(x)
    if x.dtype == np.float32 and to.size_bytes == 2:
        bits = (bits.view(np.uint32) >> 16).astype(np.uint16)
    if to is DType.BFLOAT16:
        return np.asarray((bits.view(np.uint16).astype(np.uint32) << 16).view(np.float32)).reshape(x.shape)
    if to is DType.BOOL:
        return np.asarray(bits.view(np.uint8) != 0).reshape(x.shape)
    return bits.view(to.numpy).reshape(x.shape)


TABLE = (
    unary("identity", lambda b, x: x, lambda x: x, Domain.ANY, keeps_zero=True, raw=True),
    PointwiseFunction(
        name="cast", arity=1, domain=Domain.ANY, result=Result.PARAMETER, emit=_emit_cast,
        reference=_reference_cast, keeps_zero=True,
    ),
    PointwiseFunction(
        name="bit_cast", arity=1, domain=Domain.ANY, result=Result.PARAMETER, emit=_emit_bit_cast,
        reference=_reference_bit_cast, raw=True, wide_reference=False,
    ),
)  # fmt: skip
