"""Element types, layouts and tensor types.

Shapes are tuples of `Dim`. A layout says how a logical shape lies in memory; the default is dense row-major.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from plumbline.contracts.dims import Dim, add, ceildiv, format_dim, is_static, mul, product

Shape = tuple[Dim, ...]

MAX_TENSOR_AXES = 32
"""Of a tensor that a call brings or gets."""
MAX_CALL_TENSORS = 1024
"""Of one call, in or out."""


class DType(StrEnum):
    """Element types that native code computes with."""

    BOOL = "bool"
    UINT8 = "uint8"
    INT8 = "int8"
    UINT16 = "uint16"
    INT16 = "int16"
    UINT32 = "uint32"
    INT32 = "int32"
    UINT64 = "uint64"
    INT64 = "int64"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    FLOAT32 = "float32"
    FLOAT64 = "float64"

    @property
    def size_bytes(self) -> int:
        """Bytes of one element."""
        return _SIZES[self]

    @property
    def is_float(self) -> bool:
        """Whether this is a floating-point type."""
        return self in _FLOATS

    @property
    def is_signed(self) -> bool:
        """Whether values can be negative."""
        return self in _FLOATS or self in _SIGNED

    @property
    def is_integer(self) -> bool:
        """Whether this is an integer type (bool is not)."""
        return self not in _FLOATS and self is not DType.BOOL

    @property
    def numpy(self) -> np.dtype:
        """The numpy type with the same bytes (bfloat16 travels as uint16)."""
        return np.dtype("uint16") if self is DType.BFLOAT16 else np.dtype(self.value)

    @classmethod
    def of(cls, array: np.ndarray) -> DType:
        """The element type of a numpy array."""
        return cls(array.dtype.name)


_SIZES = {
    DType.BOOL: 1, DType.UINT8: 1, DType.INT8: 1, DType.UINT16: 2, DType.INT16: 2, DType.UINT32: 4,
    DType.INT32: 4, DType.UINT64: 8, DType.INT64: 8, DType.FLOAT16: 2, DType.BFLOAT16: 2, DType.FLOAT32: 4,
    DType.FLOAT64: 8,
}  # fmt: skip
_FLOATS = frozenset({DType.FLOAT16, DType.BFLOAT16, DType.FLOAT32, DType.FLOAT64})
_SIGNED = frozenset({DType.INT8, DType.INT16, DType.INT32, DType.INT64})


@dataclass(frozen=True, slots=True)
class RowMajor:
    """Dense, last axis fastest."""

    def __str__(self) -> str:
        return "row_major"


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocked:
    """Channel-blocked image layout `[N, ceil(C / block), H + top + bottom, W + left + right, block]`.

    The halo around each image plane holds zeros, written by the step that produces the tensor, so that a
    convolution needs no border code. Channels past C hold zeros.
    """

    block: int
    top: int = 0
    left: int = 0
    bottom: int = 0
    right: int = 0

    def __str__(self) -> str:
        halo = "" if not any(self.halo) else f",{self.top},{self.left},{self.bottom},{self.right}"
        return f"blocked({self.block}{halo})"

    @property
    def halo(self) -> tuple[int, int, int, int]:
        """Rows and columns of zeros: top, left, bottom, right."""
        return self.top, self.left, self.bottom, self.right


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """Weights in the order in which a kernel reads them; `scheme` names the packer, `parameters` feed it."""

    scheme: str
    parameters: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"packed({','.join((self.scheme, *map(str, self.parameters)))})"


Layout = RowMajor | Blocked | Packed
ROW_MAJOR = RowMajor()


@dataclass(frozen=True, slots=True)
class TensorType:
    """Element type, logical shape and layout of a tensor."""

    dtype: DType
    shape: Shape
    layout: Layout = ROW_MAJOR

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def elements(self) -> Dim:
        """Number of logical elements."""
        return product(self.shape)

    @property
    def is_static(self) -> bool:
        """Whether every dimension is an integer."""
        return all(is_static(d) for d in self.shape)

    def with_layout(self, layout: Layout) -> TensorType:
        """The same logical tensor in another layout."""
        return replace(self, layout=layout)

    def __str__(self) -> str:
        dims = ", ".join(format_dim(d) for d in self.shape)
        layout = "" if self.layout == ROW_MAJOR else f" @{self.layout}"
        return f"{self.dtype.value}[{dims}]{layout}"


def storage_shape(type_: TensorType) -> Shape:
    """The physical extents of a tensor, outermost first.

    Packed weights have a physical size that only their packer knows; they are not described here.
    """
    match type_.layout:
        case Blocked(block=block, top=top, left=left, bottom=bottom, right=right):
            n, c, h, w = type_.shape
            return (n, ceildiv(c, block), add(h, top + bottom), add(w, left + right), block)
        case _:
            return type_.shape


def storage_bytes(type_: TensorType) -> Dim:
    """Bytes that a tensor takes in memory, halo and channel padding included."""
    return mul(product(storage_shape(type_)), type_.dtype.size_bytes)
