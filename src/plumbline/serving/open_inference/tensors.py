"""Tensors from the wire. Every size is checked before anything is allocated for it."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from plumbline.serving.open_inference.byte_strings import object_array, unpack_byte_strings
from plumbline.serving.open_inference.datatypes import FLOATS, ITEM_BYTES, dtype_of
from plumbline.serving.open_inference.limits import TensorLimits
from plumbline.serving.open_inference.refusals import TensorRefused, TensorTooLarge

__all__ = ["array_from_json", "array_from_raw", "array_from_values", "verify_tensor"]

_LARGEST_EXTENT = 2**31
_FEW_VALUES = 64
_ROUNDS_TO_INFINITY = {"FP16": 65520.0, "FP32": 2.0**128 - 2.0**103, "FP64": math.inf}
"""The least magnitude that a datatype rounds to infinity: half a unit above its largest number."""


def verify_tensor(name: str, datatype: str, shape: Sequence[int], limits: TensorLimits) -> int:
    """The number of elements that a declared tensor has.

    Raises:
        TensorRefused: unknown datatype, negative or huge extent.
        TensorTooLarge: rank, elements or bytes beyond the limits.
    """
    if not name or len(name) > limits.max_name_bytes:
        reason = f"a name has 1 to {limits.max_name_bytes} characters"
        raise TensorRefused(tensor=name[:40], reason=reason)
    item_bytes = ITEM_BYTES.get(datatype)
    if item_bytes is None:
        raise TensorRefused(tensor=name, reason=f"there is no datatype {datatype[:40]!r}")
    if len(shape) > limits.max_tensor_rank:
        raise TensorTooLarge(tensor=name, what="its rank", given=len(shape), limit=limits.max_tensor_rank)
    for extent in shape:
        if not 0 <= extent < _LARGEST_EXTENT:
            raise TensorRefused(tensor=name, reason=f"extent {str(extent)[:24]} is not from 0 to 2147483647")
    count = math.prod(shape)
    if count > limits.max_tensor_elements:
        limit = limits.max_tensor_elements
        raise TensorTooLarge(tensor=name, what="the number of elements", given=count, limit=limit)
    if count * item_bytes > limits.max_tensor_bytes:
        limit = limits.max_tensor_bytes
        raise TensorTooLarge(tensor=name, what="its size in bytes", given=count * item_bytes, limit=limit)
    return count


def array_from_raw(
    name: str, datatype: str, shape: Sequence[int], count: int, data: memoryview
) -> np.ndarray:
    """A tensor from its binary data; a view of it where alignment allows.

    Raises:
        TensorRefused: the data has another size than datatype and shape ask for.
    """
    if datatype == "BYTES":
        return object_array(unpack_byte_strings(name, data, count), tuple(shape))
    if len(data) != count * ITEM_BYTES[datatype]:
        wanted = count * ITEM_BYTES[datatype]
        raise TensorRefused(
            tensor=name, reason=f"{len(data)} bytes of data, {datatype} {list(shape)} has {wanted}"
        )
    if datatype == "BOOL" and count and np.frombuffer(data, np.uint8).max() > 1:
        raise TensorRefused(tensor=name, reason="a BOOL byte is neither 0 nor 1")
    array = np.frombuffer(data, dtype=dtype_of(datatype)).reshape(shape)
    return array if array.flags.aligned else array.copy()


def array_from_json(name: str, datatype: str, shape: Sequence[int], count: int, data: bytes) -> np.ndarray:
    """A tensor from its JSON `data`, flat or nested as deep as its rank.

    Raises:
        TensorRefused: values of another kind, another number of them, or nested in another shape.
    """
    if datatype == "BF16":
        raise TensorRefused(tensor=name, reason="BF16 travels as binary data only")
    depth = _depth(data)
    if depth not in (1, len(shape)):
        raise TensorRefused(
            tensor=name, reason=f"data is nested {depth} deep, expected 1 or {max(1, len(shape))}"
        )
    try:
        values = _decoder(datatype, depth).decode(data)
    except msgspec.MsgspecError as error:
        raise TensorRefused(tensor=name, reason=f"data: {error}") from None
    flat = values if depth == 1 else _flatten(name, values, shape)
    if len(flat) != count:
        reason = f"{len(flat)} values of data, shape {list(shape)} has {count}"
        raise TensorRefused(tensor=name, reason=reason)
    return array_from_values(name, datatype, shape, flat)


def array_from_values(
    name: str, datatype: str, shape: Sequence[int], values: Sequence[Any], *, is_wire_float: bool = False
) -> np.ndarray:
    """A tensor from as many values as it has, of the right Python type.

    Args:
        name: of the tensor.
        datatype: of the tensor.
        shape: of the tensor.
        values: in row-major order.
        is_wire_float: floats came as floats of their width, so NaN and infinity are meant.

    Raises:
        TensorRefused: a value that the datatype cannot hold.
    """
    if datatype == "BYTES":
        encoded = [value.encode() if isinstance(value, str) else value for value in values]
        return object_array(encoded, tuple(shape))
    dtype = dtype_of(datatype)
    if datatype in FLOATS:
        if not is_wire_float and len(values) <= _FEW_VALUES:
            return _few_floats(name, datatype, dtype, shape, values)
        with np.errstate(over="ignore"):
            array = np.array(values, dtype=np.float64).astype(dtype)
        if not is_wire_float and not np.isfinite(array).all():
            raise TensorRefused(tensor=name, reason=f"a value is beyond the range of {datatype}")
        return array.reshape(shape)
    try:
        return np.array(values, dtype=dtype).reshape(shape)
    except OverflowError:
        raise TensorRefused(tensor=name, reason=f"a value is beyond the range of {datatype}") from None


def _few_floats(
    name: str, datatype: str, dtype: np.dtype[Any] | None, shape: Sequence[int], values: Sequence[float]
) -> np.ndarray:
    """The same by comparing numbers: numpy's look at a few of them costs more than making the array."""
    bound = _ROUNDS_TO_INFINITY[datatype]
    if values and not (-bound < min(values) and max(values) < bound):
        raise TensorRefused(tensor=name, reason=f"a value is beyond the range of {datatype}")
    array = np.array(values, dtype)
    return array if len(shape) == 1 else array.reshape(shape)


def _depth(data: bytes) -> int:
    depth = 0
    for byte in data[:256]:
        if byte == 0x5B:
            depth += 1
        elif byte not in b" \t\r\n":
            break
    return depth


@functools.lru_cache(maxsize=256)
def _decoder(datatype: str, depth: int) -> msgspec.json.Decoder[Any]:
    element: Any = int
    if datatype in FLOATS:
        element = float
    elif datatype == "BYTES":
        element = str
    elif datatype == "BOOL":
        element = bool
    for _ in range(depth):
        element = list[element]
    return msgspec.json.Decoder(element)


def _flatten(name: str, values: Any, shape: Sequence[int]) -> list[Any]:
    level = [values]
    for axis, extent in enumerate(shape):
        if any(len(item) != extent for item in level):
            raise TensorRefused(
                tensor=name, reason=f"nested data does not have extent {extent} on axis {axis}"
            )
        level = [item for part in level for item in part]
    return level
