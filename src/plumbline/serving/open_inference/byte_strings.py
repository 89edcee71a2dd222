"""`BYTES` as binary tensor data: each element is its length (4 bytes, little endian) and itself."""

from __future__ import annotations

import struct

import numpy as np

from plumbline.serving.open_inference.refusals import TensorRefused

__all__ = ["object_array", "pack_byte_strings", "unpack_byte_strings"]

_LENGTH = struct.Struct("<I")


def object_array(elements: list[bytes], shape: tuple[int, ...]) -> np.ndarray:
    """Elements as an array of dtype object. The caller has checked that the shape fits."""
    array = np.empty(len(elements), dtype=object)
    array[:] = elements
    return array.reshape(shape)


def unpack_byte_strings(name: str, data: memoryview, count: int) -> list[bytes]:
    """The elements of a tensor.

    Raises:
        TensorRefused: a length points outside the data, or there are not `count` elements.
    """
    if count * 4 > len(data):
        raise TensorRefused(tensor=name, reason=f"{len(data)} bytes cannot hold {count} elements")
    elements: list[bytes] = []
    offset, size = 0, len(data)
    unpack = _LENGTH.unpack_from
    while offset + 4 <= size and len(elements) < count:
        end = offset + 4 + unpack(data, offset)[0]
        if end > size:
            raise TensorRefused(tensor=name, reason=f"element {len(elements)} is longer than the data")
        elements.append(bytes(data[offset + 4 : end]))
        offset = end
    if len(elements) != count or offset != size:
        raise TensorRefused(
            tensor=name, reason=f"{size} bytes do not hold exactly {count} elements with their lengths"
        )
    return elements


def pack_byte_strings(array: np.ndarray) -> bytes:
    """An array of dtype object whose elements are `bytes`, in row-major order."""
    parts: list[bytes] = []
    for element in array.ravel().tolist():
        parts.append(_LENGTH.pack(len(element)))
        parts.append(element)
    return b"".join(parts)
