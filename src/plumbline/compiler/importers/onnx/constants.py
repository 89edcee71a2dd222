"""Initialisers as graph constants: small ones read now, others where they lie when they are packed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from plumbline.compiler.graph.builder import GraphBuilder
from plumbline.compiler.graph.constant import ArrayConstant
from plumbline.compiler.graph.graph import TensorID
from plumbline.compiler.importers.onnx.node import DTYPES
from plumbline.compiler.importers.onnx_wire import OnnxTensor, read_array
from plumbline.compiler.importers.onnx_wire.arrays import UnsupportedTensorError
from plumbline.contracts.tensors import TensorType

__all__ = ["INLINE_BYTES", "StoredTensor", "add_initializer"]

INLINE_BYTES = 4096


@dataclass(frozen=True)
class StoredTensor:
    """An initialiser that stays in its file. Its identity is its place in a file of known content."""

    record: OnnxTensor
    file_identity: str

    @property
    def identity(self) -> str:
        """Digest of the file and the place in it."""
        return f"{self.file_identity}#{self.record.name}"

    def read(self) -> np.ndarray:
        """The values, mapped from the file where its form allows."""
        return read_array(self.record)


def add_initializer(builder: GraphBuilder, record: OnnxTensor, file_identity: str) -> TensorID:
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
    return builder.stored_constant(StoredTensor(record, file_identity), type_, record.name)
