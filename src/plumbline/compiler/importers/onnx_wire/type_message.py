"""ValueInfoProto and TypeProto: names and declared types of values."""

from __future__ import annotations

from collections.abc import Callable

from plumbline.compiler.importers.onnx_wire.data_types import UNDEFINED, find_data_type
from plumbline.compiler.importers.onnx_wire.records import (
    MapTypeInfo,
    OnnxType,
    OnnxValueInfo,
    OpaqueTypeInfo,
    OptionalTypeInfo,
    SequenceTypeInfo,
    SparseTensorTypeInfo,
    TensorTypeInfo,
    WireShape,
)
from plumbline.compiler.importers.onnx_wire.session import ReadSession
from plumbline.compiler.importers.onnx_wire.tensor_message import UnknownDataTypeError, verify_dims
from plumbline.compiler.importers.onnx_wire.wire import LENGTH, VARINT, signed32, signed64

__all__ = ["decode_type", "decode_value_info"]

_OPEN = -1
"""How some exporters write an extent that they leave open; the others leave it out."""


def decode_value_info(session: ReadSession, start: int, end: int, depth: int) -> OnnxValueInfo:
    """The ValueInfoProto in bytes [start, end)."""
    walker = session.walker
    depth = walker.enter(depth, start)
    walker.count("values", walker.limits.values)
    name, span = "", None
    for found in walker.fields(start, end):
        number, _, value, stop = found
        if number == 1:
            walker.expect(found, LENGTH, "ValueInfoProto")
            name = walker.text(value, stop, "a value name")
        elif number == 2:
            walker.expect(found, LENGTH, "ValueInfoProto")
            if span is not None:
                raise walker.malformed(value, f"value {name!r}", "its type is given twice")
            span = (value, stop)
    kind = None if span is None else decode_type(session, *span, depth, f"value {name!r}")
    return OnnxValueInfo(name=name, type=kind)


def decode_type(session: ReadSession, start: int, end: int, depth: int, place: str) -> OnnxType | None:
    """The TypeProto in bytes [start, end); None when it says nothing that is known.

    Raises:
        MalformedMessageError: it says two types at once.
    """
    walker = session.walker
    depth = walker.enter(depth, start)
    kind: OnnxType | None = None
    for found in walker.fields(start, end):
        number, _, value, stop = found
        if number not in _DECODERS:
            continue
        walker.expect(found, LENGTH, "TypeProto")
        if kind is not None:
            raise walker.malformed(value, place, "it has two types")
        kind = _DECODERS[number](session, value, stop, depth, place)
    return kind


def _tensor(session: ReadSession, start: int, end: int, depth: int, place: str) -> TensorTypeInfo:
    elem_type, shape = _elements_and_shape(session, start, end, depth, place)
    return TensorTypeInfo(elem_type=elem_type, shape=shape)


def _sparse(session: ReadSession, start: int, end: int, depth: int, place: str) -> SparseTensorTypeInfo:
    elem_type, shape = _elements_and_shape(session, start, end, depth, place)
    return SparseTensorTypeInfo(elem_type=elem_type, shape=shape)


def _elements_and_shape(
    session: ReadSession, start: int, end: int, depth: int, place: str
) -> tuple[int, WireShape | None]:
    walker = session.walker
    depth = walker.enter(depth, start)
    code, shape = UNDEFINED, None
    for found in walker.fields(start, end):
        number, _, value, stop = found
        if number == 1:
            walker.expect(found, VARINT, "TypeProto.Tensor")
            code = _element_code(session, signed32(value), stop, place)
        elif number == 2:
            walker.expect(found, LENGTH, "TypeProto.Tensor")
            if shape is not None:
                raise walker.malformed(value, place, "its shape is given twice")
            shape = _shape(session, value, stop, depth, place)
    return code, shape


def _element_code(session: ReadSession, code: int, offset: int, place: str) -> int:
    if code != UNDEFINED and find_data_type(code) is None:
        name = session.walker.source.name
        raise UnknownDataTypeError(file=name, offset=offset, place=place, data_type=code)
    return code


def _shape(session: ReadSession, start: int, end: int, depth: int, place: str) -> WireShape:
    walker = session.walker
    depth = walker.enter(depth, start)
    dims: list[int | str | None] = []
    for found in walker.fields(start, end):
        number, _, value, stop = found
        if number == 1:
            walker.expect(found, LENGTH, "TensorShapeProto")
            dims.append(_dimension(session, value, stop, depth))
            if len(dims) > walker.limits.rank:
                break
    verify_dims(session, tuple(dims), start, place)
    return tuple(dims)


def _dimension(session: ReadSession, start: int, end: int, depth: int) -> int | str | None:
    walker = session.walker
    walker.enter(depth, start)
    dim: int | str | None = None
    for found in walker.fields(start, end):
        number, _, value, stop = found
        if number == 1:
            walker.expect(found, VARINT, "Dimension")
            extent = signed64(value)
            dim = None if extent == _OPEN else extent
        elif number == 2:
            walker.expect(found, LENGTH, "Dimension")
            dim = walker.text(value, stop, "a dimension name") or None
    return dim


def _sequence(session: ReadSession, start: int, end: int, depth: int, place: str) -> SequenceTypeInfo:
    return SequenceTypeInfo(element=_key_and_element(session, start, end, depth, place, 1)[1])


def _optional(session: ReadSession, start: int, end: int, depth: int, place: str) -> OptionalTypeInfo:
    return OptionalTypeInfo(element=_key_and_element(session, start, end, depth, place, 1)[1])


def _map(session: ReadSession, start: int, end: int, depth: int, place: str) -> MapTypeInfo:
    key_type, value = _key_and_element(session, start, end, depth, place, 2)
    return MapTypeInfo(key_type=key_type, value=value)


def _key_and_element(
    session: ReadSession, start: int, end: int, depth: int, place: str, element_field: int
) -> tuple[int, OnnxType | None]:
    """Sequence, optional (element in field 1) and map (key in field 1, value in field 2)."""
    walker = session.walker
    depth = walker.enter(depth, start)
    key, span = UNDEFINED, None
    for found in walker.fields(start, end):
        number, _, value, stop = found
        if number == element_field:
            walker.expect(found, LENGTH, "TypeProto")
            if span is not None:
                raise walker.malformed(value, place, "its element type is given twice")
            span = (value, stop)
        elif number == 1:
            walker.expect(found, VARINT, "TypeProto.Map")
            key = _element_code(session, signed32(value), stop, place)
    element = None if span is None else decode_type(session, *span, depth, place)
    return key, element


def _opaque(session: ReadSession, start: int, end: int, depth: int, place: str) -> OpaqueTypeInfo:
    walker = session.walker
    walker.enter(depth, start)
    texts = {1: "", 2: ""}
    for found in walker.fields(start, end):
        number, _, value, stop = found
        if number in texts:
            walker.expect(found, LENGTH, "TypeProto.Opaque")
            texts[number] = walker.text(value, stop, place)
    return OpaqueTypeInfo(domain=texts[1], name=texts[2])


_TypeDecoder = Callable[[ReadSession, int, int, int, str], OnnxType]
_DECODERS: dict[int, _TypeDecoder] = {1: _tensor, 4: _sequence, 5: _map, 7: _opaque, 8: _sparse, 9: _optional}
