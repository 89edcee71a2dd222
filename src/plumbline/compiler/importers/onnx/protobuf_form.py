"""Records of a node back in protobuf form, for functions that the ONNX standard makes from a whole node."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper

from plumbline.compiler.importers.onnx_wire import (
    AttributeKind,
    OnnxAttribute,
    OnnxGraph,
    OnnxNode,
    OnnxTensor,
    OnnxValueInfo,
    read_array,
)

__all__ = ["node_proto"]


def node_proto(record: OnnxNode) -> onnx.NodeProto:
    """A node with its attributes, graphs included; kinds that no such function reads are left out."""
    node = helper.make_node(
        record.op_type, list(record.inputs), list(record.outputs), name=record.name, domain=record.domain
    )
    node.overload = record.overload
    node.attribute.extend(_attribute(a) for a in record.attributes if _is_carried(a))
    return node


def _is_carried(attribute: OnnxAttribute) -> bool:
    unread = (
        AttributeKind.SPARSE_TENSOR,
        AttributeKind.SPARSE_TENSORS,
        AttributeKind.TYPE,
        AttributeKind.TYPES,
    )
    return attribute.type not in unread


def _attribute(attribute: OnnxAttribute) -> onnx.AttributeProto:
    if attribute.ref_attr_name:
        kind: Any = int(attribute.type)
        return onnx.AttributeProto(name=attribute.name, type=kind, ref_attr_name=attribute.ref_attr_name)
    value = attribute.value
    plain = [_plain(v) for v in value] if isinstance(value, tuple) else _plain(value)
    return helper.make_attribute(attribute.name, plain, attr_type=int(attribute.type))


def _plain(value: Any) -> Any:
    if isinstance(value, OnnxTensor):
        return _tensor(value)
    return _graph(value) if isinstance(value, OnnxGraph) else value


def _tensor(tensor: OnnxTensor) -> onnx.TensorProto:
    dense = np.ascontiguousarray(read_array(tensor))
    return helper.make_tensor(tensor.name, tensor.dtype, list(tensor.dims), dense.tobytes(), raw=True)


def _graph(graph: OnnxGraph) -> onnx.GraphProto:
    return helper.make_graph(
        [node_proto(n) for n in graph.nodes],
        graph.name or "body",
        [_value(v) for v in graph.inputs],
        [_value(v) for v in graph.outputs],
        initializer=[_tensor(t) for t in graph.initializers],
    )


def _value(value: OnnxValueInfo) -> onnx.ValueInfoProto:
    if not value.elem_type:
        return onnx.ValueInfoProto(name=value.name)
    return helper.make_tensor_value_info(value.name, value.elem_type, value.shape)
