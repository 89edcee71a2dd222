"""Datatype names of the Open Inference Protocol, as numpy sees them."""

from __future__ import annotations

import numpy as np

from plumbline.contracts.tensors import DType

__all__ = ["datatype_of", "numpy_of"]

_NAMES = {
    DType.BOOL: "BOOL", DType.UINT8: "UINT8", DType.INT8: "INT8", DType.UINT16: "UINT16",
    DType.INT16: "INT16", DType.UINT32: "UINT32", DType.INT32: "INT32", DType.UINT64: "UINT64",
    DType.INT64: "INT64", DType.FLOAT16: "FP16", DType.BFLOAT16: "BF16", DType.FLOAT32: "FP32",
    DType.FLOAT64: "FP64",
}  # fmt: skip
_NUMPY = {**{name: dtype.numpy for dtype, name in _NAMES.items()}, "BYTES": np.dtype(object)}


def datatype_of(dtype: DType) -> str:
    """The protocol's name of an element type.

    >>> datatype_of(DType.FLOAT32)
    'FP32'
    """
    return _NAMES[dtype]


def numpy_of(datatype: str) -> np.dtype | None:
    """The numpy type that carries a datatype, or None for a name that is none."""
    return _NUMPY.get(datatype)
