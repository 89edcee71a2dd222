"""ModelProto and FunctionProto."""

from __future__ import annotations

from dataclasses import dataclass, field

from plumbline.compiler.importers.onnx_wire.entries import add_opset, decode_domain, decode_entry
from plumbline.compiler.importers.onnx_wire.graph_message import decode_attribute, decode_graph, decode_node
from plumbline.compiler.importers.onnx_wire.records import (
    OnnxAttribute,
    OnnxFunction,
    OnnxGraph,
    OnnxModel,
    OnnxNode,
    OnnxValueInfo,
)
from plumbline.compiler.importers.onnx_wire.session import ReadSession
from plumbline.compiler.importers.onnx_wire.type_message import decode_value_info
from plumbline.compiler.importers.onnx_wire.wire import LENGTH, VARINT, Field, signed64

__all__ = ["decode_function", "decode_model"]


@dataclass(slots=True)
class _ModelDraft:
    numbers: dict[int, int] = field(default_factory=dict)
    texts: dict[int, str] = field(default_factory=dict)
    opset_imports: dict[str, int] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    graph: OnnxGraph | None = None
    functions: list[OnnxFunction] = field(default_factory=list)
    training: int = 0


def decode_model(session: ReadSession) -> OnnxModel:
    """The ModelProto that fills the whole source.

    Raises:
        MalformedMessageError: it has no graph or no format version.
        ArtifactError, ValidationError: leaves that name the byte and the place.
    """
    walker = session.walker
    draft = _ModelDraft()
    for found in walker.fields(0, walker.source.size_bytes):
        _take_model_field(session, draft, found)
    if draft.graph is None:
        raise walker.malformed(0, "the model", "it has no graph; this is not an ONNX model")
    if 1 not in draft.numbers:
        raise walker.malformed(0, "the model", "it has no format version (ir_version)")
    return OnnxModel(
        ir_version=draft.numbers[1],
        opset_imports=draft.opset_imports,
        producer_name=draft.texts.get(2, ""),
        producer_version=draft.texts.get(3, ""),
        domain=draft.texts.get(4, ""),
        model_version=draft.numbers.get(5, 0),
        graph=draft.graph,
        functions=tuple(draft.functions),
        metadata=draft.metadata,
        training_graphs=draft.training,
    )


def _take_model_field(session: ReadSession, draft: _ModelDraft, found: Field) -> None:
    walker = session.walker
    number, _, value, end = found
    if number in (1, 5):
        walker.expect(found, VARINT, "ModelProto")
        draft.numbers[number] = signed64(value)
        return
    if number not in (2, 3, 4, 7, 8, 14, 20, 25):
        return
    walker.expect(found, LENGTH, "ModelProto")
    if number == 7:
        if draft.graph is not None:
            raise walker.malformed(value, "the model", "it has two graphs")
        draft.graph = decode_graph(session, value, end, 1)
    elif number == 8:
        add_opset(walker, draft.opset_imports, value, end, 1)
    elif number == 25:
        draft.functions.append(decode_function(session, value, end, 1))
    elif number == 14:
        key, text = decode_entry(walker, value, end, 1)
        draft.metadata[key] = text
    elif number == 20:
        draft.training += 1
    else:
        draft.texts[number] = walker.text(value, end, "the producer or domain of the model")


@dataclass(slots=True)
class _FunctionDraft:
    texts: dict[int, str] = field(default_factory=dict)
    names: dict[int, list[str]] = field(default_factory=dict)
    defaults: list[OnnxAttribute] = field(default_factory=list)
    nodes: list[OnnxNode] = field(default_factory=list)
    value_info: list[OnnxValueInfo] = field(default_factory=list)
    opset_imports: dict[str, int] = field(default_factory=dict)


def decode_function(session: ReadSession, start: int, end: int, depth: int) -> OnnxFunction:
    """The FunctionProto in bytes [start, end).

    Raises:
        MalformedMessageError: it has no name.
    """
    walker = session.walker
    depth = walker.enter(depth, start)
    walker.count("functions", walker.limits.functions)
    draft = _FunctionDraft()
    for found in walker.fields(start, end):
        _take_function_field(session, draft, found, depth)
    if not draft.texts.get(1):
        raise walker.malformed(start, "a function", "it has no name")
    return OnnxFunction(
        name=draft.texts[1],
        domain=decode_domain(draft.texts.get(10, "")),
        overload=draft.texts.get(13, ""),
        inputs=tuple(draft.names.get(4, ())),
        outputs=tuple(draft.names.get(5, ())),
        attributes=tuple(draft.names.get(6, ())),
        attribute_defaults=tuple(draft.defaults),
        nodes=tuple(draft.nodes),
        value_info=tuple(draft.value_info),
        opset_imports=draft.opset_imports,
    )


def _take_function_field(session: ReadSession, draft: _FunctionDraft, found: Field, depth: int) -> None:
    walker = session.walker
    number, _, value, end = found
    if number not in (1, 4, 5, 6, 7, 9, 10, 11, 12, 13):
        return
    walker.expect(found, LENGTH, "FunctionProto")
    if number in (1, 10, 13):
        draft.texts[number] = walker.text(value, end, "the name or domain of a function")
    elif number in (4, 5, 6):
        name = walker.text(value, end, "the name of a function input, output or attribute")
        draft.names.setdefault(number, []).append(name)
        allowed = walker.limits.node_values
        if len(draft.names[number]) > allowed:
            raise walker.over("names", len(draft.names[number]), allowed, f"the function at byte {value}")
    elif number == 7:
        draft.nodes.append(decode_node(session, value, end, depth))
    elif number == 9:
        add_opset(walker, draft.opset_imports, value, end, depth)
    elif number == 11:
        draft.defaults.append(decode_attribute(session, value, end, depth))
    else:
        draft.value_info.append(decode_value_info(session, value, end, depth))
