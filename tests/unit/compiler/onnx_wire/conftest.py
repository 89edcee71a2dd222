"""The oracle: an ONNX protobuf object compared with our records, field by field."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from plumbline.compiler.importers.onnx_wire import (
    OnnxAttribute,
    OnnxGraph,
    OnnxModel,
    OnnxNode,
    OnnxSparseTensor,
    OnnxTensor,
    OnnxValueInfo,
    read_array,
    records,
)
from plumbline.compiler.importers.payload import StringPayload


def same_domain(ours: str, theirs: str) -> bool:
    return ours == ("" if theirs == "ai.onnx" else theirs)


def compare_model(ours: OnnxModel, theirs: onnx.ModelProto) -> None:
    assert ours.ir_version == theirs.ir_version
    assert ours.producer_name == theirs.producer_name
    assert ours.producer_version == theirs.producer_version
    assert ours.domain == theirs.domain
    assert ours.model_version == theirs.model_version
    assert ours.metadata == {entry.key: entry.value for entry in theirs.metadata_props}
    assert ours.training_graphs == len(theirs.training_info)
    compare_opsets(ours.opset_imports, theirs.opset_import)
    compare_graph(ours.graph, theirs.graph)
    assert len(ours.functions) == len(theirs.functions)
    for function, proto in zip(ours.functions, theirs.functions, strict=True):
        compare_function(function, proto)


def compare_opsets(ours, theirs) -> None:
    assert ours == {("" if o.domain == "ai.onnx" else o.domain): o.version for o in theirs}


def compare_function(ours: records.OnnxFunction, theirs: onnx.FunctionProto) -> None:
    assert (ours.name, ours.overload) == (theirs.name, theirs.overload)
    assert same_domain(ours.domain, theirs.domain)
    assert ours.inputs == tuple(theirs.input)
    assert ours.outputs == tuple(theirs.output)
    assert ours.attributes == tuple(theirs.attribute)
    compare_opsets(ours.opset_imports, theirs.opset_import)
    compare_each(compare_attribute, ours.attribute_defaults, theirs.attribute_proto)
    compare_each(compare_node, ours.nodes, theirs.node)
    compare_each(compare_value, ours.value_info, theirs.value_info)


def compare_each(compare: Callable, ours, theirs) -> None:
    assert len(ours) == len(theirs)
    for left, right in zip(ours, theirs, strict=True):
        compare(left, right)


def compare_graph(ours: OnnxGraph, theirs: onnx.GraphProto) -> None:
    assert ours.name == theirs.name
    compare_each(compare_node, ours.nodes, theirs.node)
    compare_each(compare_tensor, ours.initializers, theirs.initializer)
    compare_each(compare_sparse, ours.sparse_initializers, theirs.sparse_initializer)
    compare_each(compare_value, ours.inputs, theirs.input)
    compare_each(compare_value, ours.outputs, theirs.output)
    compare_each(compare_value, ours.value_info, theirs.value_info)


def compare_node(ours: OnnxNode, theirs: onnx.NodeProto) -> None:
    assert (ours.name, ours.op_type, ours.overload) == (theirs.name, theirs.op_type, theirs.overload)
    assert same_domain(ours.domain, theirs.domain)
    assert ours.inputs == tuple(theirs.input)
    assert ours.outputs == tuple(theirs.output)
    compare_each(compare_attribute, ours.attributes, theirs.attribute)


def as_bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


def compare_attribute(ours: OnnxAttribute, theirs: onnx.AttributeProto) -> None:
    assert ours.name == theirs.name
    assert ours.ref_attr_name == theirs.ref_attr_name
    if theirs.type:
        assert int(ours.type) == theirs.type
    if ours.ref_attr_name:
        assert ours.value is None
        return
    match ours.type.name:
        case "FLOAT":
            assert ours.value == theirs.f or math.isnan(theirs.f)
        case "INT":
            assert ours.value == theirs.i
        case "STRING":
            assert as_bytes(ours.value) == theirs.s
        case "TENSOR":
            compare_tensor(ours.value, theirs.t)
        case "GRAPH":
            compare_graph(ours.value, theirs.g)
        case "SPARSE_TENSOR":
            compare_sparse(ours.value, theirs.sparse_tensor)
        case "TYPE":
            compare_type(ours.value, theirs.tp)
        case "FLOATS":
            np.testing.assert_array_equal(np.array(ours.value), np.array(theirs.floats))
        case "INTS":
            assert ours.value == tuple(theirs.ints)
        case "STRINGS":
            assert [as_bytes(item) for item in ours.value] == list(theirs.strings)
        case "TENSORS":
            compare_each(compare_tensor, ours.value, theirs.tensors)
        case "GRAPHS":
            compare_each(compare_graph, ours.value, theirs.graphs)
        case "SPARSE_TENSORS":
            compare_each(compare_sparse, ours.value, theirs.sparse_tensors)
        case "TYPES":
            compare_each(compare_type, ours.value, theirs.type_protos)


def compare_sparse(ours: OnnxSparseTensor, theirs: onnx.SparseTensorProto) -> None:
    assert ours.dims == tuple(theirs.dims)
    compare_tensor(ours.values, theirs.values)
    compare_tensor(ours.indices, theirs.indices)


def compare_tensor(ours: OnnxTensor, theirs: onnx.TensorProto, base_dir: str = "") -> None:
    assert ours.name == theirs.name
    assert ours.dtype == theirs.data_type
    assert ours.dims == tuple(theirs.dims)
    if theirs.data_type == onnx.TensorProto.STRING:
        assert isinstance(ours.payload, StringPayload)
        assert ours.payload.count == len(theirs.string_data)
        return
    if ours.data_type.carrier is None:
        return
    compare_arrays(read_array(ours), numpy_helper.to_array(theirs, base_dir), ours.data_type)


def compare_arrays(ours: np.ndarray, theirs: np.ndarray, data_type) -> None:
    assert ours.shape == theirs.shape
    if data_type.is_bits:
        theirs = theirs.view(np.uint16 if data_type.bits == 16 else np.uint8)
        if data_type.bits < 8:
            theirs = theirs & ((1 << data_type.bits) - 1)
    elif data_type.bits < 8:
        theirs = theirs.astype(ours.dtype)
    assert ours.dtype == theirs.dtype
    if ours.size:
        flat = np.ascontiguousarray(ours).reshape(-1)
        assert flat.tobytes() == np.ascontiguousarray(theirs).tobytes()


def compare_value(ours: OnnxValueInfo, theirs: onnx.ValueInfoProto) -> None:
    assert ours.name == theirs.name
    if theirs.HasField("type"):
        compare_type(ours.type, theirs.type)
    else:
        assert ours.type is None


def compare_type(ours: records.OnnxType | None, theirs: onnx.TypeProto) -> None:
    match theirs.WhichOneof("value"):
        case None:
            assert ours is None
        case "tensor_type":
            assert isinstance(ours, records.TensorTypeInfo)
            compare_shaped(ours, theirs.tensor_type)
        case "sparse_tensor_type":
            assert isinstance(ours, records.SparseTensorTypeInfo)
            compare_shaped(ours, theirs.sparse_tensor_type)
        case "sequence_type":
            assert isinstance(ours, records.SequenceTypeInfo)
            compare_type(ours.element, theirs.sequence_type.elem_type)
        case "optional_type":
            assert isinstance(ours, records.OptionalTypeInfo)
            compare_type(ours.element, theirs.optional_type.elem_type)
        case "map_type":
            assert isinstance(ours, records.MapTypeInfo)
            assert ours.key_type == theirs.map_type.key_type
            compare_type(ours.value, theirs.map_type.value_type)
        case "opaque_type":
            assert isinstance(ours, records.OpaqueTypeInfo)
            assert (ours.domain, ours.name) == (theirs.opaque_type.domain, theirs.opaque_type.name)


def compare_shaped(ours, theirs) -> None:
    assert ours.elem_type == theirs.elem_type
    if not theirs.HasField("shape"):
        assert ours.shape is None
        return
    wanted = [
        dim.dim_value if dim.HasField("dim_value") else (dim.dim_param or None) for dim in theirs.shape.dim
    ]
    assert list(ours.shape) == wanted


@pytest.fixture(name="same_model")
def same_model_fixture() -> Callable[[OnnxModel, onnx.ModelProto], None]:
    """Asserts that records and protobuf say the same."""
    return compare_model


@pytest.fixture(name="same_tensor")
def same_tensor_fixture() -> Callable[..., None]:
    """Asserts that a record and a protobuf tensor say the same and hold the same elements."""
    return compare_tensor
