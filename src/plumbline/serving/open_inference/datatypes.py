"""Datatypes of the protocol and how numpy holds them. `BF16` is held as uint16, `BYTES` as objects."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["FLOATS", "ITEM_BYTES", "datatype_of", "dtype_of"]

_DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BF16": np.dtype("<u2"),
    "BYTES": np.dtype(object),
}

_DATATYPES = {dtype: name for name, dtype in _DTYPES.items() if name != "BF16"}

ITEM_BYTES = {name: dtype.itemsize for name, dtype in _DTYPES.items()}
"""Bytes of an element in memory; of `BYTES`, of the reference to one."""

FLOATS = frozenset({"FP16", "FP32", "FP64"})


def dtype_of(datatype: str) -> np.dtype[Any] | None:
    """How numpy holds a datatype; None when there is no such datatype.

    >>> dtype_of("FP32")
    dtype('float32')
    """
    return _DTYPES.get(datatype)


def datatype_of(array: np.ndarray) -> str | None:
    """The datatype of an array that nothing more is known of; uint16 is `UINT16`.

    >>> datatype_of(np.zeros(2, np.int8))
    'INT8'
    """
    return _DATATYPES.get(array.dtype)
