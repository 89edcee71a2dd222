"""LLVM spelling of element types, constants, masks and overloaded names."""

from __future__ import annotations

import struct

from plumbline.contracts.tensors import DType

__all__ = ["SCALARS", "SUFFIXES", "lane_mask", "literal", "llvm_type", "mangle", "memory_type"]

SCALARS = {
    DType.BOOL: "i1", DType.UINT8: "i8", DType.INT8: "i8", DType.UINT16: "i16", DType.INT16: "i16",
    DType.UINT32: "i32", DType.INT32: "i32", DType.UINT64: "i64", DType.INT64: "i64", DType.FLOAT16: "half",
    DType.BFLOAT16: "i16", DType.FLOAT32: "float", DType.FLOAT64: "double",
}  # fmt: skip
SUFFIXES = {"half": "f16", "bfloat": "bf16", "float": "f32", "double": "f64"}


def llvm_type(dtype: DType, lanes: int = 1) -> str:
    """The LLVM type of a value in a register."""
    scalar = SCALARS[dtype]
    return scalar if lanes == 1 else f"<{lanes} x {scalar}>"


def memory_type(dtype: DType, lanes: int) -> str:
    """The LLVM type of a value in memory, where a boolean takes a byte."""
    scalar = "i8" if dtype is DType.BOOL else SCALARS[dtype]
    return scalar if lanes == 1 else f"<{lanes} x {scalar}>"


def lane_mask(lanes: int, valid: int) -> str:
    """A constant mask whose first `valid` of `lanes` lanes are set."""
    bits = ", ".join("i1 true" if lane < valid else "i1 false" for lane in range(lanes))
    return f"<{lanes} x i1> <{bits}>"


def mangle(kind: str) -> str:
    """A type as the suffix of an overloaded intrinsic: `<8 x float>` is `v8f32`."""
    if kind.startswith("<"):
        count, _, scalar = kind[1:-1].split(" ")
        return f"v{count}{SUFFIXES.get(scalar, scalar)}"
    return SUFFIXES.get(kind, kind)


def literal(dtype: DType, number: int | float | bool) -> str:
    """A constant of a type: integers wrap around, floats are rounded and spelled by their bits."""
    if dtype is DType.BOOL:
        return "true" if number else "false"
    if not dtype.is_float:
        return str(_wrap(dtype, int(number)))
    if dtype is DType.FLOAT64:
        bits = struct.unpack("<Q", struct.pack("<d", number))[0]
        return f"0x{bits:016X}"
    if dtype is DType.FLOAT32:
        rounded = _to_float32(float(number))
        return f"0x{struct.unpack('<Q', struct.pack('<d', rounded))[0]:016X}"
    if dtype is DType.FLOAT16:
        return f"0xH{struct.unpack('<H', struct.pack('<e', number))[0]:04X}"
    return str(_wrap(DType.INT16, _bfloat16_bits(float(number))))


def _bfloat16_bits(number: float) -> int:
    """Bits of a constant rounded to bfloat16, ties to even; NaN stays NaN."""
    bits = int(struct.unpack("<I", struct.pack("<f", _to_float32(number)))[0])
    if number != number:
        return 0x7FC0
    return (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16


def _to_float32(number: float) -> float:
    try:
        return float(struct.unpack("<f", struct.pack("<f", number))[0])
    except OverflowError:
        return float("inf") if number > 0 else float("-inf")


def _wrap(dtype: DType, number: int) -> int:
    bits = dtype.size_bytes * 8
    number &= (1 << bits) - 1
    return number - (1 << bits) if number >> (bits - 1) else number
