"""What an ONNX file says, as frozen records. Names and nesting follow onnx.proto.

`""` is the default operator domain (files also write `ai.onnx`). Documentation strings, node metadata, device
and sharding hints and quantisation annotations do not change results and are not kept.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from plumbline.compiler.importers.onnx_wire.data_types import DATA_TYPES, DataType
from plumbline.compiler.importers.payload import Payload

__all__ = [
    "AttributeKind",
    "AttributeValue",
    "MapTypeInfo",
    "OnnxAttribute",
    "OnnxFunction",
    "OnnxGraph",
    "OnnxModel",
    "OnnxNode",
    "OnnxSparseTensor",
    "OnnxTensor",
    "OnnxType",
    "OnnxValueInfo",
    "OpaqueTypeInfo",
    "OptionalTypeInfo",
    "SequenceTypeInfo",
    "SparseTensorTypeInfo",
    "TensorTypeInfo",
    "WireShape",
]

WireShape = tuple[int | str | None, ...]
"""Dimensions: a size, the name of a symbol, or None where the file says nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxTensor:
    """A constant: element type code, extents, and where its bytes are."""

    name: str
    dtype: int
    dims: tuple[int, ...]
    payload: Payload

    @property
    def data_type(self) -> DataType:
        """Facts about the element type."""
        return DATA_TYPES[self.dtype]

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.dims)

    @property
    def packed_bytes(self) -> int:
        """Bytes of the elements in raw form (0 for strings)."""
        return self.data_type.packed_bytes(self.elements)


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxSparseTensor:
    """A sparse constant: non-zero values, their indices, and the dense extents."""

    values: OnnxTensor
    indices: OnnxTensor
    dims: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorTypeInfo:
    """A dense tensor. `elem_type` 0 means undeclared; `shape` None means that the rank is undeclared."""

    elem_type: int
    shape: WireShape | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SparseTensorTypeInfo:
    """A sparse tensor."""

    elem_type: int
    shape: WireShape | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceTypeInfo:
    """A sequence of values of one type."""

    element: OnnxType | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionalTypeInfo:
    """A value that may be absent."""

    element: OnnxType | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MapTypeInfo:
    """A map from keys of an element type code to values of one type."""

    key_type: int
    value: OnnxType | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpaqueTypeInfo:
    """A type that only its domain understands."""

    domain: str
    name: str


OnnxType = (
    TensorTypeInfo | SparseTensorTypeInfo | SequenceTypeInfo | OptionalTypeInfo | MapTypeInfo | OpaqueTypeInfo
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxValueInfo:
    """A named value and its declared type (None where the file declares none)."""

    name: str
    type: OnnxType | None

    @property
    def elem_type(self) -> int | None:
        """Element type code of a dense tensor; None for other types."""
        return self.type.elem_type if isinstance(self.type, TensorTypeInfo) else None

    @property
    def shape(self) -> WireShape | None:
        """Declared shape of a dense tensor; None where absent and for other types."""
        return self.type.shape if isinstance(self.type, TensorTypeInfo) else None


class AttributeKind(IntEnum):
    """`AttributeProto.AttributeType`."""

    UNDEFINED = 0
    FLOAT = 1
    INT = 2
    STRING = 3
    TENSOR = 4
    GRAPH = 5
    FLOATS = 6
    INTS = 7
    STRINGS = 8
    TENSORS = 9
    GRAPHS = 10
    SPARSE_TENSOR = 11
    SPARSE_TENSORS = 12
    TYPE = 13
    TYPES = 14


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxAttribute:
    """A named value of a node.

    Attributes:
        type: which of the kinds `value` is.
        value: None only for a reference. A string that is not UTF-8 is `bytes`; lists are tuples.
        ref_attr_name: inside a function body, the attribute of the caller that this one takes its value from;
            empty otherwise.
    """

    name: str
    type: AttributeKind
    value: AttributeValue
    ref_attr_name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxNode:
    """One operation. An empty input or output name is an omitted optional value."""

    name: str
    op_type: str
    domain: str
    overload: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: tuple[OnnxAttribute, ...]

    def find_attribute(self, name: str) -> OnnxAttribute | None:
        """The attribute of that name, or None."""
        return next((attribute for attribute in self.attributes if attribute.name == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxGraph:
    """Nodes in file order with their constants and the declared types of values."""

    name: str
    nodes: tuple[OnnxNode, ...]
    initializers: tuple[OnnxTensor, ...]
    sparse_initializers: tuple[OnnxSparseTensor, ...]
    inputs: tuple[OnnxValueInfo, ...]
    outputs: tuple[OnnxValueInfo, ...]
    value_info: tuple[OnnxValueInfo, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxFunction:
    """A local function: an operator defined by nodes.

    `attributes` are names without a default, `attribute_defaults` those with one.
    """

    name: str
    domain: str
    overload: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: tuple[str, ...]
    attribute_defaults: tuple[OnnxAttribute, ...]
    nodes: tuple[OnnxNode, ...]
    value_info: tuple[OnnxValueInfo, ...]
    opset_imports: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxModel:
    """A whole file. `training_graphs` counts training parts, which inference ignores."""

    ir_version: int
    opset_imports: Mapping[str, int]
    producer_name: str
    producer_version: str
    domain: str
    model_version: int
    graph: OnnxGraph
    functions: tuple[OnnxFunction, ...]
    metadata: Mapping[str, str]
    training_graphs: int


AttributeValue = (
    int
    | float
    | str
    | bytes
    | OnnxTensor
    | OnnxGraph
    | OnnxSparseTensor
    | OnnxType
    | tuple[int, ...]
    | tuple[float, ...]
    | tuple[str | bytes, ...]
    | tuple[OnnxTensor, ...]
    | tuple[OnnxGraph, ...]
    | tuple[OnnxSparseTensor, ...]
    | tuple[OnnxType, ...]
    | None
)
