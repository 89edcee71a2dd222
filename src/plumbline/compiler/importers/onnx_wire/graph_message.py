"""GraphProto, NodeProto and AttributeProto, which contain one another."""

from __future__ import annotations

from dataclasses import dataclass, field

from plumbline.compiler.importers.onnx_wire.attribute_value import AttributeDraft, finish_attribute
from plumbline.compiler.importers.onnx_wire.entries import decode_domain
from plumbline.compiler.importers.onnx_wire.records import (
    AttributeKind,
    OnnxAttribute,
    OnnxGraph,
    OnnxNode,
    OnnxSparseTensor,
    OnnxTensor,
    OnnxValueInfo,
)
from plumbline.compiler.importers.onnx_wire.session import ReadSession
from plumbline.compiler.importers.onnx_wire.tensor_message import decode_sparse_tensor, decode_tensor
from plumbline.compiler.importers.onnx_wire.type_message import decode_type, decode_value_info
from plumbline.compiler.importers.onnx_wire.wire import (
    FIXED32,
    LENGTH,
    VARINT,
    Field,
    signed32,
    signed64,
)

__all__ = ["decode_attribute", "decode_graph", "decode_node"]


@dataclass(slots=True)
class _GraphDraft:
    name: str = ""
    nodes: list[OnnxNode] = field(default_factory=list)
    initializers: list[OnnxTensor] = field(default_factory=list)
    sparse: list[OnnxSparseTensor] = field(default_factory=list)
    inputs: list[OnnxValueInfo] = field(default_factory=list)
    outputs: list[OnnxValueInfo] = field(default_factory=list)
    value_info: list[OnnxValueInfo] = field(default_factory=list)


def decode_graph(session: ReadSession, start: int, end: int, depth: int) -> OnnxGraph:
    """The GraphProto in bytes [start, end).

    Raises:
        ArtifactError, ValidationError: leaves that name the byte and the node, tensor or value.
    """
    walker = session.walker
    depth = walker.enter(depth, start)
    draft = _GraphDraft()
    for found in walker.fields(start, end):
        _take_graph_field(session, draft, found, depth)
    return OnnxGraph(
        name=draft.name,
        nodes=tuple(draft.nodes),
        initializers=tuple(draft.initializers),
        sparse_initializers=tuple(draft.sparse),
        inputs=tuple(draft.inputs),
        outputs=tuple(draft.outputs),
        value_info=tuple(draft.value_info),
    )


def _take_graph_field(session: ReadSession, draft: _GraphDraft, found: Field, depth: int) -> None:
    number, _, value, end = found
    if number not in (1, 2, 5, 11, 12, 13, 15):
        return
    session.walker.expect(found, LENGTH, "GraphProto")
    if number == 1:
        draft.nodes.append(decode_node(session, value, end, depth))
    elif number == 5:
        draft.initializers.append(decode_tensor(session, value, end, depth))
    elif number == 2:
        draft.name = session.walker.text(value, end, "a graph name")
    elif number == 15:
        draft.sparse.append(decode_sparse_tensor(session, value, end, depth))
    else:
        target = {11: draft.inputs, 12: draft.outputs, 13: draft.value_info}[number]
        target.append(decode_value_info(session, value, end, depth))


def decode_node(session: ReadSession, start: int, end: int, depth: int) -> OnnxNode:
    """The NodeProto in bytes [start, end).

    Raises:
        MalformedMessageError: it names no operator, or one attribute twice.
    """
    walker = session.walker
    depth = walker.enter(depth, start)
    walker.count("nodes", walker.limits.nodes)
    inputs: list[str] = []
    outputs: list[str] = []
    texts = {3: "", 4: "", 7: "", 8: ""}
    attributes: dict[str, OnnxAttribute] = {}
    for found in walker.fields(start, end):
        number, _, value, stop = found
        if number > 8 or number == 6:
            continue
        walker.expect(found, LENGTH, "NodeProto")
        if number < 3:
            names = inputs if number == 1 else outputs
            names.append(walker.text(value, stop, "the name of a node input or output"))
            _verify_node_values(session, len(names), start)
        elif number == 5:
            attribute = decode_attribute(session, value, stop, depth)
            if attribute.name in attributes:
                reason = f"attribute {attribute.name!r} is given twice"
                raise walker.malformed(value, f"node {texts[3]!r}", reason)
            attributes[attribute.name] = attribute
            _verify_node_values(session, len(attributes), start)
        else:
            texts[number] = walker.text(value, stop, "the name, operator or domain of a node")
    place = f"node {texts[3] or (outputs[0] if outputs else '')!r}"
    if not texts[4]:
        raise walker.malformed(start, place, "it names no operator")
    return OnnxNode(
        name=texts[3],
        op_type=texts[4],
        domain=decode_domain(texts[7]),
        overload=texts[8],
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        attributes=tuple(attributes.values()),
    )


def _verify_node_values(session: ReadSession, found: int, start: int) -> None:
    allowed = session.walker.limits.node_values
    if found > allowed:
        place = f"the node at byte {start}"
        raise session.walker.over("inputs, outputs or attributes", found, allowed, place)


_MESSAGES = {
    5: AttributeKind.TENSOR,
    6: AttributeKind.GRAPH,
    10: AttributeKind.TENSORS,
    11: AttributeKind.GRAPHS,
    14: AttributeKind.TYPE,
    15: AttributeKind.TYPES,
    22: AttributeKind.SPARSE_TENSOR,
    23: AttributeKind.SPARSE_TENSORS,
}
_LISTED = "attribute values"
_STRINGS = {4: AttributeKind.STRING, 9: AttributeKind.STRINGS}
_INTS = {3: AttributeKind.INT, 8: AttributeKind.INTS}
_FLOATS = {2: AttributeKind.FLOAT, 7: AttributeKind.FLOATS}


def decode_attribute(session: ReadSession, start: int, end: int, depth: int) -> OnnxAttribute:
    """The AttributeProto in bytes [start, end).

    Raises:
        MalformedMessageError: its type and the fields that are present disagree.
    """
    walker = session.walker
    depth = walker.enter(depth, start)
    draft = AttributeDraft(start)
    for found in walker.fields(start, end):
        number, _, value, stop = found
        if number == 1 or number == 21:
            walker.expect(found, LENGTH, "AttributeProto")
            text = walker.text(value, stop, "an attribute name")
            if number == 1:
                draft.name = text
            else:
                draft.reference = text
        elif number == 20:
            walker.expect(found, VARINT, "AttributeProto")
            draft.declared = signed32(value)
        else:
            _take_value(session, draft, found, depth)
    return finish_attribute(walker, draft)


def _take_value(session: ReadSession, draft: AttributeDraft, found: Field, depth: int) -> None:
    walker = session.walker
    number, _, value, end = found
    if number in _INTS:
        _take_ints(session, draft.values_of(_INTS[number]), found)
    elif number in _FLOATS:
        _take_floats(session, draft.values_of(_FLOATS[number]), found)
    elif number in _STRINGS:
        walker.expect(found, LENGTH, "AttributeProto")
        draft.values_of(_STRINGS[number]).append(_string(session, value, end))
    elif number in _MESSAGES:
        walker.expect(found, LENGTH, "AttributeProto")
        kind = _MESSAGES[number]
        draft.values_of(kind).append(_message(session, kind, value, end, depth))


def _take_ints(session: ReadSession, values: list[object], found: Field) -> None:
    walker = session.walker
    number, wire, value, end = found
    if wire == LENGTH and number == 8:
        allowed = walker.limits.attribute_values
        if end - value > 10 * allowed:
            raise walker.over("packed bytes", end - value, 10 * allowed, f"the attribute at byte {value}")
        before = len(values)
        values.extend(map(signed64, walker.varints(value, end)))
        walker.count(_LISTED, allowed, len(values) - before)
        return
    walker.expect(found, VARINT, "AttributeProto")
    values.append(signed64(value))
    walker.count(_LISTED, walker.limits.attribute_values)


def _take_floats(session: ReadSession, values: list[object], found: Field) -> None:
    walker = session.walker
    number, wire, value, end = found
    if wire == LENGTH and number == 7:
        if (end - value) % 4:
            raise walker.truncated(value, "a list of floats", end)
        allowed = walker.limits.attribute_values
        if end - value > 4 * allowed:
            raise walker.over("packed bytes", end - value, 4 * allowed, f"the attribute at byte {value}")
        walker.count(_LISTED, allowed, (end - value) // 4)
        values.extend(walker.float32(offset) for offset in range(value, end, 4))
        return
    walker.expect(found, FIXED32, "AttributeProto")
    values.append(walker.float32(value))
    walker.count(_LISTED, walker.limits.attribute_values)


def _string(session: ReadSession, start: int, end: int) -> str | bytes:
    walker = session.walker
    if end - start > walker.limits.attribute_bytes:
        allowed = walker.limits.attribute_bytes
        raise walker.over("bytes", end - start, allowed, f"the string attribute at byte {start}")
    walker.count(_LISTED, walker.limits.attribute_values)
    walker.count("bytes of string attributes", walker.limits.total_text_bytes, end - start)
    data = walker.source.buffer[start:end]
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data


def _message(session: ReadSession, kind: AttributeKind, start: int, end: int, depth: int) -> object:
    if kind in (AttributeKind.TENSOR, AttributeKind.TENSORS):
        return decode_tensor(session, start, end, depth)
    if kind in (AttributeKind.GRAPH, AttributeKind.GRAPHS):
        return decode_graph(session, start, end, depth)
    if kind in (AttributeKind.TYPE, AttributeKind.TYPES):
        return decode_type(session, start, end, depth, "a type attribute")
    return decode_sparse_tensor(session, start, end, depth)
