"""Initialisers as graph constants: small ones read now, others where they lie when they are packed."""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np

from plumbline.compiler.graph.builder import GraphBuilder
from plumbline.compiler.graph.constant import ArrayConstant
from plumbline.compiler.graph.graph import TensorID
from plumbline.compiler.importers.digest import digest_bytes
from plumbline.compiler.importers.onnx.node import DTYPES
from plumbline.compiler.importers.onnx_wire import OnnxTensor, read_array
from plumbline.compiler.importers.onnx_wire.arrays import UnsupportedTensorError
from plumbline.compiler.importers.payload import ByteSource, ExternalPayload, FieldPayload, RawPayload
from plumbline.contracts.tensors import TensorType

__all__ = ["INLINE_BYTES", "StoredTensor", "add_initializer", "remember_digest"]

INLINE_BYTES = 4096

_digests: WeakKeyDictionary[ByteSource, str] = WeakKeyDictionary()
"""Digests of buffers that are in use."""


@dataclass(frozen=True)
class StoredTensor:
    """An initialiser that stays in its file."""

    record: OnnxTensor

    @property
    def identity(self) -> str:
        """Its place in a file of known content: the model file by its digest, an external file, which is not
        read to name it, by its size and time of change.
        """
        payload = self.record.payload
        form = f"{self.record.dtype}{list(self.record.dims)}"
        if isinstance(payload, ExternalPayload):
            file = payload.file
            content = f"{file.location} {file.size_bytes} {file.identity.mtime_ns}"
            return f"external:{content}#{payload.offset}+{payload.size_bytes}:{form}"
        if isinstance(payload, RawPayload):
            return f"{_digest(payload.source)}#{payload.offset}+{payload.size_bytes}:{form}"
        if isinstance(payload, FieldPayload):
            pieces = ",".join(f"{p.offset}+{p.size_bytes}" for p in payload.pieces)
            return f"{_digest(payload.source)}#{payload.field}[{pieces}]:{form}"
        raise UnsupportedTensorError(tensor=self.record.name, data_type=self.record.data_type.name)

    def read(self) -> np.ndarray:
        """The values, mapped from the file where its form allows."""
        return read_array(self.record)


def add_initializer(builder: GraphBuilder, record: OnnxTensor) -> TensorID:
    """Add a constant for an initialiser.

    Raises:
        UnsupportedTensorError: its element type has no native form.
        TensorDataError: a small one is damaged (large ones are checked when they are read).
    """
    dtype = DTYPES.get(record.dtype)
    if dtype is None:
        raise UnsupportedTensorError(tensor=record.name, data_type=record.data_type.name)
    type_ = TensorType(dtype, record.dims)
    if record.packed_bytes <= INLINE_BYTES:
        array = np.ascontiguousarray(read_array(record)).reshape(record.dims)
        return builder.stored_constant(ArrayConstant(array), type_, record.name)
    return builder.stored_constant(StoredTensor(record), type_, record.name)


def remember_digest(record: OnnxTensor, digest: str) -> None:
    """Say what the digest of the model file is that holds a tensor, so that it is not read for it."""
    if isinstance(record.payload, RawPayload | FieldPayload):
        _digests[record.payload.source] = digest


def _digest(source: ByteSource) -> str:
    known = _digests.get(source)
    if known is None:
        known = _digests[source] = digest_bytes(memoryview(source.buffer))
    return known
