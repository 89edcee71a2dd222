"""Function bodies: operators that a model or the ONNX standard defines by other operators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import onnx
from onnx import defs, helper

from plumbline.compiler.graph.builder import GraphBuilder
from plumbline.compiler.graph.graph import TensorID
from plumbline.compiler.importers.onnx.node import DTYPES
from plumbline.compiler.importers.onnx.protobuf_form import node_proto
from plumbline.compiler.importers.onnx_wire import (
    OnnxAttribute,
    OnnxFunction,
    OnnxGraph,
    OnnxNode,
    read_model,
)

__all__ = ["FunctionLibrary", "bind_attributes", "find_arity"]

MANY = 2**31 - 1

_CODES = {dtype: code for code, dtype in DTYPES.items()}


class FunctionLibrary:
    """Functions of one model, and those of the standard."""

    def __init__(self, local: Sequence[OnnxFunction]) -> None:
        self._local = {(f.domain, f.name, f.overload): f for f in local}

    def find_local(self, record: OnnxNode) -> OnnxFunction | None:
        """The function that the model itself defines for a node."""
        return self._local.get((record.domain, record.op_type, record.overload))

    def find_standard(
        self, record: OnnxNode, opset: int, inputs: Sequence[TensorID | None], builder: GraphBuilder
    ) -> OnnxFunction | None:
        """The body that the standard defines for a node, or None."""
        try:
            schema: Any = defs.get_schema(record.op_type, opset, record.domain)
        except defs.SchemaError:
            return None
        proto = None
        if schema.has_function:
            proto = schema.function_body
        elif schema.has_context_dependent_function:
            proto = _context_dependent(schema, record, inputs, builder)
        if proto is None:
            return None
        return _read_function(proto, opset, _defaults(schema))


@lru_cache(maxsize=4096)
def find_arity(domain: str, operator: str, opset: int) -> tuple[int, int]:
    """Fewest and most operands of a standard operator; any number for others."""
    try:
        schema: Any = defs.get_schema(operator, opset, domain)
    except defs.SchemaError:
        return 0, MANY
    return int(schema.min_input), int(schema.max_input)


def bind_attributes(body: OnnxFunction, given: Sequence[OnnxAttribute]) -> OnnxFunction:
    """A body whose references to attributes of the caller are replaced by values; unbound ones go."""
    values = {a.name: a for a in (*body.attribute_defaults, *given)}
    return replace(body, nodes=tuple(_bind_node(node, values) for node in body.nodes))


def _bind_node(node: OnnxNode, values: Mapping[str, OnnxAttribute]) -> OnnxNode:
    bound = []
    for attribute in node.attributes:
        if not attribute.ref_attr_name:
            bound.append(_bind_nested(attribute, values))
        elif attribute.ref_attr_name in values:
            bound.append(replace(values[attribute.ref_attr_name], name=attribute.name))
    return replace(node, attributes=tuple(bound))


def _bind_nested(attribute: OnnxAttribute, values: Mapping[str, OnnxAttribute]) -> OnnxAttribute:
    if not isinstance(attribute.value, OnnxGraph):
        return attribute
    graph = attribute.value
    return replace(
        attribute, value=replace(graph, nodes=tuple(_bind_node(node, values) for node in graph.nodes))
    )


def _context_dependent(
    schema: Any, record: OnnxNode, inputs: Sequence[TensorID | None], builder: GraphBuilder
) -> onnx.FunctionProto | None:
    types = [_type_proto(t, builder) for t in inputs]
    text = schema.get_context_dependent_function(node_proto(record).SerializeToString(), types)
    if not text:
        return None
    proto = onnx.FunctionProto()
    proto.ParseFromString(text)
    return proto


def _type_proto(tensor: TensorID | None, builder: GraphBuilder) -> bytes:
    if tensor is None:
        return bytes(onnx.TypeProto().SerializeToString())
    type_ = builder.type_of(tensor)
    shape = [d if isinstance(d, int) else None for d in type_.shape]
    return bytes(helper.make_tensor_type_proto(_CODES[type_.dtype], shape).SerializeToString())


def _defaults(schema: Any) -> list[onnx.AttributeProto]:
    """Attributes that the standard gives a value where a node does not."""
    values = (attribute.default_value for attribute in schema.attributes.values())
    return [value for value in values if value.name and value.type]


def _read_function(
    proto: onnx.FunctionProto, opset: int, defaults: Sequence[onnx.AttributeProto]
) -> OnnxFunction:
    """Through our own reader, by way of a model that holds the function."""
    graph = helper.make_graph([], "empty", [], [])
    named = onnx.FunctionProto()
    named.CopyFrom(proto)
    named.domain = named.domain or "plumbline.standard"
    stated = {a.name for a in named.attribute_proto}
    named.attribute_proto.extend(a for a in defaults if a.name not in stated)
    del named.attribute[:]
    if not named.opset_import:
        named.opset_import.append(helper.make_opsetid("", opset))
    model = helper.make_model(graph, functions=[named], opset_imports=[helper.make_opsetid("", opset)])
    return read_model(model.SerializeToString()).functions[0]
