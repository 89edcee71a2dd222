"""Tensor payloads as numpy arrays: this is where bytes are read.

Raw little-endian data becomes a read-only view of the mapped file, without a copy and often unaligned. Typed
fields and packed types are decoded into fresh arrays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from plumbline.compiler.importers.onnx_wire.data_types import STRING, DataType, find_data_type
from plumbline.compiler.importers.onnx_wire.packed_elements import unpack
from plumbline.compiler.importers.onnx_wire.records import OnnxTensor
from plumbline.compiler.importers.onnx_wire.tensor_message import UnknownDataTypeError, stored_items
from plumbline.compiler.importers.onnx_wire.varint_runs import VarintRunError, decode_varint_run
from plumbline.compiler.importers.payload import (
    DataField,
    ExternalPayload,
    FieldPayload,
    RawPayload,
    raw_view,
)
from plumbline.errors import ArtifactError, ValidationError

__all__ = ["TensorDataError", "UnsupportedTensorError", "read_array"]

Array = np.ndarray[tuple[int, ...], np.dtype[np.generic]]


@dataclass(eq=False, kw_only=True)
class UnsupportedTensorError(ValidationError):
    """Nothing computes with this element type."""

    code = "validation.onnx.unsupported_tensor"
    owner = "compiler.importers"
    template = "tensor {tensor!r} holds {data_type}, which no operation here computes with"

    tensor: str
    data_type: str


@dataclass(eq=False, kw_only=True)
class TensorDataError(ArtifactError):
    """The stored elements are not what type and dimensions say."""

    code = "artifact.onnx.tensor_data"
    owner = "compiler.importers"
    template = "tensor {tensor!r}: {reason}"

    tensor: str
    reason: str


def read_array(tensor: OnnxTensor) -> Array:
    """The elements of a tensor, shape `tensor.dims`, in the carrier type of its `DataType`.

    Floats without a numpy type come as bit patterns: bfloat16 as uint16; 8-, 6- and 4-bit floats as uint8.
    Two- and four-bit integers come as int8 or uint8 values. Read-only where it is a view.

    Raises:
        UnsupportedTensorError: strings and complex numbers.
        TensorDataError: wrong number of elements, a value that its type cannot hold, a bool that is
            not 0 or 1.
        UnreadableFileError: external data that is not the file that was checked.
    """
    data_type = find_data_type(tensor.dtype)
    if data_type is None:
        raise UnknownDataTypeError(
            file="?", offset=0, place=f"tensor {tensor.name!r}", data_type=tensor.dtype
        )
    if data_type.carrier is None or data_type.code == STRING:
        raise UnsupportedTensorError(tensor=tensor.name, data_type=data_type.name)
    if tensor.elements == 0:
        return np.empty(tensor.dims, data_type.carrier)
    payload = tensor.payload
    if isinstance(payload, FieldPayload):
        flat = _from_field(tensor, payload, data_type)
    elif isinstance(payload, RawPayload | ExternalPayload):
        flat = _from_raw(tensor, payload, data_type)
    else:
        raise TensorDataError(tensor=tensor.name, reason=f"strings are stored for {data_type.name}")
    return flat.reshape(tensor.dims)


def _from_raw(tensor: OnnxTensor, payload: RawPayload | ExternalPayload, data_type: DataType) -> Array:
    if payload.size_bytes != tensor.packed_bytes:
        reason = f"{payload.size_bytes} bytes are stored, type and dimensions need {tensor.packed_bytes}"
        raise TensorDataError(tensor=tensor.name, reason=reason)
    view = raw_view(payload)
    if data_type.bits < 8:
        return unpack(np.frombuffer(view, np.uint8), data_type, tensor.elements)
    if data_type.name == "bool":
        _verify_bools(tensor, np.frombuffer(view, np.uint8))
    return np.frombuffer(view, data_type.carrier)


def _from_field(tensor: OnnxTensor, payload: FieldPayload, data_type: DataType) -> Array:
    if payload.field != data_type.field:
        raise TensorDataError(tensor=tensor.name, reason=f"{payload.field} cannot hold {data_type.name}")
    items = stored_items(data_type, tensor.elements)
    if payload.field in (DataField.FLOAT, DataField.DOUBLE):
        flat = _fixed(payload, np.dtype("<f4" if payload.field is DataField.FLOAT else "<f8"))
        _verify_count(tensor, len(flat), items)
        return flat
    values = _varints(tensor, payload, items)
    _verify_count(tensor, len(values), items)
    if payload.field is DataField.INT64:
        return values.view(np.int64)
    if payload.field is DataField.UINT64:
        return _narrow_unsigned(tensor, values, data_type)
    return _narrow_int32(tensor, values.astype(np.uint32).view(np.int32), data_type)


def _fixed(payload: FieldPayload, dtype: np.dtype[np.generic]) -> Array:
    buffer = payload.source.buffer
    runs = [
        np.frombuffer(buffer, dtype, piece.size_bytes // dtype.itemsize, piece.offset)
        for piece in payload.pieces
    ]
    return runs[0] if len(runs) == 1 else np.concatenate(runs)


def _varints(
    tensor: OnnxTensor, payload: FieldPayload, items: int
) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    buffer, runs, total = payload.source.buffer, [], 0
    for piece in payload.pieces:
        data = np.frombuffer(buffer, np.uint8, piece.size_bytes, piece.offset)
        total += int(np.count_nonzero(data < 0x80))
        if total > items:
            _verify_count(tensor, total, items)
        try:
            runs.append(decode_varint_run(data))
        except VarintRunError as error:
            reason = f"at byte {piece.offset + error.offset}: {error.reason}"
            raise TensorDataError(tensor=tensor.name, reason=reason) from error
    return runs[0] if len(runs) == 1 else np.concatenate(runs)


def _narrow_unsigned(
    tensor: OnnxTensor, values: np.ndarray[tuple[int], np.dtype[np.uint64]], data_type: DataType
) -> Array:
    if data_type.bits == 32 and values.size and int(values.max()) >> 32:
        raise TensorDataError(tensor=tensor.name, reason=f"a value does not fit in {data_type.name}")
    return values.astype(data_type.carrier, copy=False)


def _narrow_int32(
    tensor: OnnxTensor, values: np.ndarray[tuple[int], np.dtype[np.int32]], data_type: DataType
) -> Array:
    """Entries of int32_data: numbers, bit patterns, or bytes of packed elements."""
    if data_type.bits == 32:
        return values
    bits = data_type.bits if data_type.bits in (6, 16) else 8
    if int(values.min()) < -(1 << (bits - 1)) or int(values.max()) >= 1 << bits:
        raise TensorDataError(tensor=tensor.name, reason=f"an entry of int32_data has more than {bits} bits")
    if data_type.bits in (2, 4):
        return unpack(values.astype(np.uint8), data_type, tensor.elements)
    if data_type.bits == 16:
        return values.astype(np.uint16).view(_carrier(data_type))
    codes = values.astype(np.uint8)
    if data_type.bits == 6:
        return codes & np.uint8(0x3F)
    if data_type.name == "bool":
        _verify_bools(tensor, codes)
    return codes.view(_carrier(data_type))


def _carrier(data_type: DataType) -> np.dtype[np.generic]:
    return np.dtype(np.uint8) if data_type.carrier is None else data_type.carrier


def _verify_bools(tensor: OnnxTensor, codes: np.ndarray[tuple[int], np.dtype[np.uint8]]) -> None:
    if codes.size and int(codes.max()) > 1:
        raise TensorDataError(tensor=tensor.name, reason="a bool is neither 0 nor 1")


def _verify_count(tensor: OnnxTensor, found: int, wanted: int) -> None:
    if found != wanted:
        raise TensorDataError(
            tensor=tensor.name, reason=f"{found} entries are stored, its dimensions need {wanted}"
        )
