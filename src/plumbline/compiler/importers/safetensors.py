"""Safetensors files: an index of names, types, shapes and places, checked before any tensor is read.

The file is eight bytes of header length, a JSON header, then the tensors. The index demands what the format
promises: known types, sizes that follow from shapes, and ranges that cover the data without gap or overlap.
The file is mapped; a tensor is a view that costs nothing until it is read.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from plumbline.compiler.importers.json_text import parse_json
from plumbline.compiler.importers.limits import ImportLimitError, ImportLimits
from plumbline.compiler.importers.payload import ByteSource, RawPayload, open_source, raw_view
from plumbline.contracts.tensors import DType
from plumbline.errors import ArtifactError

__all__ = ["SafetensorsError", "SafetensorsFile", "StoredTensor", "index_safetensors"]

HEADER_BYTES = 64 * 2**20
"""Largest header; one of a thousand tensors takes about 100 KB."""
_DTYPES = {
    "BOOL": DType.BOOL, "U8": DType.UINT8, "I8": DType.INT8, "U16": DType.UINT16, "I16": DType.INT16,
    "U32": DType.UINT32, "I32": DType.INT32, "U64": DType.UINT64, "I64": DType.INT64, "F16": DType.FLOAT16,
    "BF16": DType.BFLOAT16, "F32": DType.FLOAT32, "F64": DType.FLOAT64,
}  # fmt: skip
_KEYS = frozenset({"dtype", "shape", "data_offsets"})


@dataclass(eq=False, kw_only=True)
class SafetensorsError(ArtifactError):
    """A safetensors file does not keep the promises of its format."""

    code = "artifact.safetensors"
    owner = "compiler.importers"
    template = "{file}: {place}: {reason}"

    file: str
    place: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTensor:
    """A tensor of the file: type, shape and place. Its bytes are read by `read`."""

    name: str
    dtype: DType
    shape: tuple[int, ...]
    payload: RawPayload = field(repr=False)

    def read(self) -> np.ndarray:
        """The elements as a read-only view (bfloat16 as uint16 bits), little-endian, perhaps unaligned."""
        flat = np.frombuffer(raw_view(self.payload), self.dtype.numpy.newbyteorder("<"))
        return flat.reshape(self.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class SafetensorsFile:
    """The index of one file."""

    name: str
    tensors: Mapping[str, StoredTensor]


def index_safetensors(path: Path, limits: ImportLimits | None = None) -> SafetensorsFile:
    """Map a file and index its header. No tensor is read.

    Raises:
        UnreadableFileError, ImportLimitError, MalformedJsonError, SafetensorsError: naming the place.
    """
    limits = limits or ImportLimits()
    source, _ = open_source(path, purpose="weights", limit_bytes=limits.external_file_bytes)
    header, start = _read_header(source)
    entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
    if len(entries) > limits.tensors:
        raise ImportLimitError(
            file=source.name, place="the header", limit="tensors", found=len(entries), allowed=limits.tensors
        )
    tensors = {name: _tensor(source, start, name, entry, limits) for name, entry in entries.items()}
    _verify_cover(source, start, tuple(tensors.values()))
    return SafetensorsFile(name=source.name, tensors=tensors)


def _read_header(source: ByteSource) -> tuple[dict[str, Any], int]:
    if source.size_bytes < 8:
        raise _error(source, "the file", f"{source.size_bytes} bytes are too few for a header")
    (length,) = struct.unpack("<Q", source.buffer[:8])
    if length > HEADER_BYTES:
        raise ImportLimitError(
            file=source.name, place="the header", limit="bytes", found=length, allowed=HEADER_BYTES
        )
    if length > source.size_bytes - 8:
        reason = f"{length} bytes are announced, {source.size_bytes - 8} follow"
        raise _error(source, "the header", reason)
    header = parse_json(bytes(source.buffer[8 : 8 + length]), source.name)
    if not isinstance(header, dict):
        raise _error(source, "the header", "it is not an object")
    return header, 8 + length


def _tensor(source: ByteSource, start: int, name: str, entry: object, limits: ImportLimits) -> StoredTensor:
    place = f"tensor {name[:200]!r}"
    if not isinstance(entry, dict) or entry.keys() != _KEYS:
        raise _error(source, place, f"it needs exactly {', '.join(sorted(_KEYS))}")
    dtype = _DTYPES.get(entry["dtype"]) if isinstance(entry["dtype"], str) else None
    if dtype is None:
        raise _error(source, place, f"element type {str(entry['dtype'])[:40]!r} is unknown")
    shape = _whole_numbers(source, place, "shape", entry["shape"], limits.rank)
    offsets = _whole_numbers(source, place, "data_offsets", entry["data_offsets"], 2)
    elements = math.prod(shape)
    if elements > limits.elements:
        raise ImportLimitError(
            file=source.name, place=place, limit="elements", found=elements, allowed=limits.elements
        )
    if len(offsets) != 2 or offsets[1] - offsets[0] != elements * dtype.size_bytes:
        reason = f"data_offsets {list(offsets)} do not hold {elements} elements of {dtype.value}"
        raise _error(source, place, reason)
    if start + offsets[1] > source.size_bytes:
        raise _error(source, place, f"it ends {start + offsets[1] - source.size_bytes} bytes after the file")
    payload = RawPayload(source=source, offset=start + offsets[0], size_bytes=offsets[1] - offsets[0])
    return StoredTensor(name=name, dtype=dtype, shape=shape, payload=payload)


def _whole_numbers(source: ByteSource, place: str, key: str, value: object, count: int) -> tuple[int, ...]:
    fits = isinstance(value, list) and len(value) <= count
    if not isinstance(value, list) or not fits or not all(type(v) is int and 0 <= v < 2**63 for v in value):
        raise _error(source, place, f"{key} is not a list of at most {count} whole numbers")
    return tuple(value)


def _verify_cover(source: ByteSource, start: int, tensors: tuple[StoredTensor, ...]) -> None:
    """Tensors lie side by side from the header to the end of the file."""
    position = start
    for tensor in sorted(tensors, key=lambda t: (t.payload.offset, t.payload.size_bytes)):
        if tensor.payload.offset != position:
            kind = "overlaps the tensor before it" if tensor.payload.offset < position else "leaves a gap"
            raise _error(source, f"tensor {tensor.name[:200]!r}", f"it {kind}")
        position += tensor.payload.size_bytes
    if position != source.size_bytes:
        raise _error(source, "the file", f"{source.size_bytes - position} bytes follow the last tensor")


def _error(source: ByteSource, place: str, reason: str) -> SafetensorsError:
    return SafetensorsError(file=source.name, place=place, reason=reason)
