"""Elements narrower than a byte, least significant bits first."""

from __future__ import annotations

import numpy as np

from plumbline.compiler.importers.onnx_wire.data_types import DataType

__all__ = ["unpack"]

Bytes = np.ndarray[tuple[int], np.dtype[np.uint8]]


def unpack(data: Bytes, data_type: DataType, elements: int) -> np.ndarray[tuple[int], np.dtype[np.generic]]:
    """One item per element from packed bytes (uint8 [ceil(elements * bits / 8)]).

    Signed integers are sign-extended to int8; everything else comes as uint8.
    """
    codes = _six_bit(data) if data_type.bits == 6 else _divided(data, data_type.bits)
    codes = codes[:elements]
    if not data_type.is_signed:
        return codes
    shift = 8 - data_type.bits
    return (codes << np.uint8(shift)).view(np.int8) >> np.int8(shift)


def _divided(data: Bytes, bits: int) -> Bytes:
    """Two or four elements a byte."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    return ((data[:, None] >> shifts) & np.uint8((1 << bits) - 1)).reshape(-1)


def _six_bit(data: Bytes) -> Bytes:
    """Four elements in three bytes."""
    padded = np.zeros(-(-data.size // 3) * 3, np.uint32)
    padded[: data.size] = data
    triples = padded.reshape(-1, 3)
    words = triples[:, 0] | triples[:, 1] << 8 | triples[:, 2] << 16
    shifts = np.arange(0, 24, 6, dtype=np.uint32)
    return ((words[:, None] >> shifts) & 0x3F).astype(np.uint8).reshape(-1)
