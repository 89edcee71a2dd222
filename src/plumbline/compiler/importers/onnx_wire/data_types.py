"""ONNX element types: how many bits, which typed field holds them, and which numpy type carries them here.

Types that numpy lacks travel as bit patterns, one element an item: `bfloat16` as uint16, the 8-, 6- and 4-bit
floats as uint8. Two- and four-bit integers travel as int8 or uint8 values.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from plumbline.compiler.importers.payload import DataField

__all__ = ["DATA_TYPES", "STRING", "UNDEFINED", "DataType", "find_data_type"]

UNDEFINED = 0
STRING = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class DataType:
    """Facts about one `TensorProto.DataType` code.

    Attributes:
        bits: bits of an element in raw data; 0 for strings.
        field: typed field that may hold the elements; None for strings.
        carrier: numpy type of the arrays that the reader makes; None where it makes none.
        is_signed: whether a packed integer is two's complement.
        is_bits: whether the carrier holds bit patterns and not values.
    """

    code: int
    name: str
    bits: int
    field: DataField | None
    carrier: np.dtype[np.generic] | None
    is_signed: bool = False
    is_bits: bool = False

    def packed_bytes(self, elements: int) -> int:
        """Bytes of `elements` elements in raw data."""
        return (elements * self.bits + 7) // 8


def find_data_type(code: int) -> DataType | None:
    """The facts of a code; None for codes that are undefined or unknown."""
    return DATA_TYPES.get(code)


def _value(code: int, name: str, bits: int, field: DataField, carrier: str, signed: bool = False) -> DataType:
    return DataType(code=code, name=name, bits=bits, field=field, carrier=np.dtype(carrier), is_signed=signed)


def _bits(code: int, name: str, bits: int) -> DataType:
    carrier = np.dtype("<u2" if bits == 16 else "u1")
    return DataType(code=code, name=name, bits=bits, field=DataField.INT32, carrier=carrier, is_bits=True)


def _absent(code: int, name: str, bits: int, field: DataField | None) -> DataType:
    return DataType(code=code, name=name, bits=bits, field=field, carrier=None)


_TABLE = (
    _value(1, "float32", 32, DataField.FLOAT, "<f4", True),
    _value(2, "uint8", 8, DataField.INT32, "u1"),
    _value(3, "int8", 8, DataField.INT32, "i1", True),
    _value(4, "uint16", 16, DataField.INT32, "<u2"),
    _value(5, "int16", 16, DataField.INT32, "<i2", True),
    _value(6, "int32", 32, DataField.INT32, "<i4", True),
    _value(7, "int64", 64, DataField.INT64, "<i8", True),
    _absent(STRING, "string", 0, None),
    _value(9, "bool", 8, DataField.INT32, "?"),
    _value(10, "float16", 16, DataField.INT32, "<f2", True),
    _value(11, "float64", 64, DataField.DOUBLE, "<f8", True),
    _value(12, "uint32", 32, DataField.UINT64, "<u4"),
    _value(13, "uint64", 64, DataField.UINT64, "<u8"),
    _absent(14, "complex64", 64, DataField.FLOAT),
    _absent(15, "complex128", 128, DataField.DOUBLE),
    _bits(16, "bfloat16", 16),
    _bits(17, "float8e4m3fn", 8),
    _bits(18, "float8e4m3fnuz", 8),
    _bits(19, "float8e5m2", 8),
    _bits(20, "float8e5m2fnuz", 8),
    _value(21, "uint4", 4, DataField.INT32, "u1"),
    _value(22, "int4", 4, DataField.INT32, "i1", True),
    _bits(23, "float4e2m1", 4),
    _bits(24, "float8e8m0", 8),
    _value(25, "uint2", 2, DataField.INT32, "u1"),
    _value(26, "int2", 2, DataField.INT32, "i1", True),
    _bits(27, "float6e2m3", 6),
    _bits(28, "float6e3m2", 6),
)

DATA_TYPES: dict[int, DataType] = {entry.code: entry for entry in _TABLE}
