"""Tensors as bytes in shared memory: measured, written, read back, and checked against what was declared.

Each tensor starts at a multiple of 64 bytes. Byte strings are stored one behind the other, each as its
length (4 bytes, little-endian) and its bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from math import prod

import numpy as np

from plumbline.contracts.inference import Tensors
from plumbline.contracts.models import ModelMetadata, TensorSpec
from plumbline.serving.workers.failures import TensorRefused
from plumbline.serving.workers.protocol import TensorAt

__all__ = [
    "ALIGNMENT",
    "BYTES",
    "MAX_AXES",
    "MAX_TENSORS",
    "WIRE_DTYPES",
    "Packed",
    "mismatch",
    "pack",
    "read",
    "write",
]

ALIGNMENT = 64
MAX_AXES = 32
MAX_TENSORS = 1024
"""Of one call, in or out."""

BYTES = 0
"""Index of byte strings in `WIRE_DTYPES`."""

WIRE_DTYPES: tuple[np.dtype[np.generic], ...] = tuple(
    np.dtype(name)
    for name in ("O", "?", "i1", "u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f2", "<f4", "<f8")
)
_INDEX = {dtype: index for index, dtype in enumerate(WIRE_DTYPES)}
_DATATYPES = {
    "BYTES": "O", "BOOL": "?", "INT8": "i1", "UINT8": "u1", "INT16": "<i2", "UINT16": "<u2", "BF16": "<u2",
    "INT32": "<i4", "UINT32": "<u4", "INT64": "<i8", "UINT64": "<u8", "FP16": "<f2", "FP32": "<f4",
    "FP64": "<f8",
}  # fmt: skip
_DECLARED: dict[str, int] = {datatype: _INDEX[np.dtype(name)] for datatype, name in _DATATYPES.items()}
_LENGTH = struct.Struct("<I")
_MAX_EXTENT = 1 << 48

Packed = list[tuple[TensorAt, "np.ndarray | bytes"]]


def pack(tensors: Tensors) -> tuple[Packed, int]:
    """Where each tensor will lie, counted from 0, with what is to be written there; and the bytes of all.

    Raises:
        TensorRefused: naming a tensor of another datatype or of too many axes, or too many of them.
    """
    if len(tensors) > MAX_TENSORS:
        raise TensorRefused(tensor=str(len(tensors)), reason=f"at most {MAX_TENSORS} tensors cross together")
    packed: Packed = []
    offset = 0
    for name, value in tensors.items():
        index = _INDEX.get(value.dtype)
        if index is None:
            raise TensorRefused(tensor=name, reason=f"values of {value.dtype} cannot cross")
        if value.ndim > MAX_AXES:
            raise TensorRefused(tensor=name, reason=f"{value.ndim} axes, at most {MAX_AXES}")
        stored = _stored_bytes(name, value) if index == BYTES else value
        size = len(stored) if isinstance(stored, bytes) else value.nbytes
        packed.append((TensorAt(name, index, value.shape, offset, size), stored))
        offset += (size + ALIGNMENT - 1) & -ALIGNMENT
    return packed, offset


def write(packed: Packed, memory: memoryview, at: int) -> list[TensorAt]:
    """Write what `pack` measured, and say where it lies, counted from the start of `memory`."""
    places = []
    for place, stored in packed:
        offset = place.offset + at
        if isinstance(stored, bytes):
            memory[offset : offset + place.size] = stored
        elif place.size:
            np.ndarray(place.shape, stored.dtype, memory, offset)[...] = stored
        places.append(TensorAt(place.name, place.type, place.shape, offset, place.size))
    return places


def read(
    places: Sequence[TensorAt], memory: memoryview, *, copy: bool, writeable: bool = False
) -> dict[str, np.ndarray]:
    """The tensors, by name; with `copy` in memory of their own, else as views where they lie, read-only
    unless `writeable`.

    Args:
        places: checked by `mismatch` when they come from somebody else.
        memory: that the offsets count in.
        copy: byte strings are always copied.

    Raises:
        ValueError: byte strings that do not fill their room exactly, or a place outside of memory.
    """
    tensors = {}
    for place in places:
        if place.type == BYTES:
            room = bytes(memory[place.offset : place.offset + place.size])
            tensors[place.name] = _byte_strings(room, place.shape)
            continue
        view = np.ndarray(place.shape, WIRE_DTYPES[place.type], memory, place.offset)
        if copy:
            tensors[place.name] = view.copy()
        else:
            if not writeable:
                view.flags.writeable = False
            tensors[place.name] = view
    return tensors


def mismatch(
    places: Sequence[TensorAt], low: int, high: int, metadata: ModelMetadata | None
) -> tuple[str, str] | None:
    """The first tensor that cannot be what it says, and why; None when all can.

    Args:
        places: to check.
        low: first byte that they may use, high: first byte behind.
        metadata: whose outputs they claim to be; None, or one without outputs: nothing is declared.
    """
    named = () if metadata is None else metadata.outputs
    declared = {spec.name: spec for spec in named} if named else None
    seen = set()
    for place in places:
        reason = _misplaced(place, low, high)
        if reason is None and declared is not None:
            reason = _undeclared(place, declared.get(place.name))
        if place.name in seen:
            reason = "it comes twice"
        if reason is not None:
            return place.name[:200], reason
        seen.add(place.name)
    return None


def _misplaced(place: TensorAt, low: int, high: int) -> str | None:
    if not 0 <= place.type < len(WIRE_DTYPES):
        return f"datatype {place.type} does not exist"
    shape = place.shape
    if len(shape) > MAX_AXES or any(not 0 <= extent <= _MAX_EXTENT for extent in shape):
        return f"shape {shape[:8]} is none"
    elements = prod(shape)
    if place.type == BYTES:
        if place.size < 4 * elements:
            return f"{elements} byte strings do not fit {place.size} bytes"
    elif elements * WIRE_DTYPES[place.type].itemsize != place.size:
        return f"shape {shape} takes other than {place.size} bytes"
    if place.size < 0 or place.offset < low or place.offset + place.size > high or place.offset % ALIGNMENT:
        return f"bytes {place.offset} to {place.offset + place.size} are not its room"
    return None


def _undeclared(place: TensorAt, spec: TensorSpec | None) -> str | None:
    if spec is None:
        return "no output has this name"
    if _DECLARED.get(spec.datatype) != place.type:
        return f"declared {spec.datatype}, given {WIRE_DTYPES[place.type]}"
    if len(spec.shape) != len(place.shape):
        return f"declared with {len(spec.shape)} axes, given {len(place.shape)}"
    if any(wanted not in (-1, extent) for wanted, extent in zip(spec.shape, place.shape, strict=True)):
        return f"declared with shape {spec.shape}, given {place.shape}"
    return None


def _stored_bytes(name: str, value: np.ndarray) -> bytes:
    parts = []
    for element in value.ravel():
        if not isinstance(element, bytes):
            raise TensorRefused(
                tensor=name, reason=f"elements of BYTES are bytes, not {type(element).__name__}"
            )
        parts.append(_LENGTH.pack(len(element)))
        parts.append(element)
    return b"".join(parts)


def _byte_strings(room: bytes, shape: tuple[int, ...]) -> np.ndarray:
    elements = prod(shape)
    flat = np.empty(elements, dtype=object)
    offset = 0
    for index in range(elements):
        if offset + 4 > len(room):
            raise ValueError("byte strings end early")
        (length,) = _LENGTH.unpack_from(room, offset)
        offset += 4
        if offset + length > len(room):
            raise ValueError("a byte string is longer than its room")
        flat[index] = room[offset : offset + length]
        offset += length
    if offset != len(room):
        raise ValueError("bytes are left behind the last byte string")
    return flat.reshape(shape)
