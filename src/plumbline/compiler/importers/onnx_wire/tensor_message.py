"""TensorProto and SparseTensorProto: dimensions and the place of the payload, which stays unread."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from plumbline.compiler.importers.onnx_wire.data_types import STRING, DataType, find_data_type
from plumbline.compiler.importers.onnx_wire.entries import decode_entry
from plumbline.compiler.importers.onnx_wire.records import OnnxSparseTensor, OnnxTensor
from plumbline.compiler.importers.onnx_wire.session import ReadSession
from plumbline.compiler.importers.onnx_wire.wire import (
    FIXED32,
    FIXED64,
    LENGTH,
    VARINT,
    Field,
    signed32,
    signed64,
)
from plumbline.compiler.importers.payload import (
    DataField,
    FieldPayload,
    Payload,
    Piece,
    RawPayload,
    StringPayload,
)
from plumbline.errors import ArtifactError, ValidationError

__all__ = [
    "PayloadSizeError",
    "ShapeError",
    "UnknownDataTypeError",
    "decode_sparse_tensor",
    "decode_tensor",
    "verify_dims",
]


@dataclass(eq=False, kw_only=True)
class ShapeError(ValidationError):
    """A dimension is negative, or a shape has more axes or elements than allowed."""

    code = "validation.onnx.shape"
    owner = "compiler.importers"
    template = "{file}, byte {offset}: {place} has an impossible shape {dims}: {reason}"

    file: str
    offset: int
    place: str
    dims: tuple[int | str | None, ...]
    reason: str


@dataclass(eq=False, kw_only=True)
class UnknownDataTypeError(ValidationError):
    """An element type code is undefined or newer than this reader."""

    code = "validation.onnx.data_type"
    owner = "compiler.importers"
    template = "{file}, byte {offset}: {place} has the unknown element type {data_type}"

    file: str
    offset: int
    place: str
    data_type: int


@dataclass(eq=False, kw_only=True)
class PayloadSizeError(ArtifactError):
    """Stored data and declared dimensions disagree."""

    code = "artifact.onnx.payload_size"
    owner = "compiler.importers"
    template = "{file}, byte {offset}: tensor {tensor!r}: {reason}"

    file: str
    offset: int
    tensor: str
    reason: str


_DATA_FIELDS = {
    4: (DataField.FLOAT, FIXED32),
    5: (DataField.INT32, VARINT),
    7: (DataField.INT64, VARINT),
    10: (DataField.DOUBLE, FIXED64),
    11: (DataField.UINT64, VARINT),
}
_WIDTHS = {FIXED32: 4, FIXED64: 8}
_EXTERNAL = 1


@dataclass(slots=True)
class _Draft:
    """A tensor while its fields arrive in any order."""

    start: int
    name: str = ""
    dtype: int = 0
    dims: list[int] = field(default_factory=list)
    raw: tuple[int, int] | None = None
    data_field: DataField | None = None
    pieces: list[Piece] = field(default_factory=list)
    strings: int = 0
    string_bytes: int = 0
    location: int = 0
    external: dict[str, str] = field(default_factory=dict)


def decode_tensor(session: ReadSession, start: int, end: int, depth: int) -> OnnxTensor:
    """The tensor message in bytes [start, end).

    Raises:
        ShapeError, UnknownDataTypeError, PayloadSizeError: naming the tensor.
        UnsafePathError, ExternalDataError, UnreadableFileError: its external data is refused.
        ArtifactError: the encoding is damaged or over a limit.
    """
    walker = session.walker
    depth = walker.enter(depth, start)
    walker.count("tensors", walker.limits.tensors)
    draft = _Draft(start)
    for found in walker.fields(start, end):
        _take(session, draft, found, depth)
    place = f"tensor {draft.name!r}"
    data_type = find_data_type(draft.dtype)
    if data_type is None:
        raise UnknownDataTypeError(file=walker.source.name, offset=start, place=place, data_type=draft.dtype)
    dims = tuple(draft.dims)
    verify_dims(session, dims, start, place)
    payload = _payload(session, draft, data_type, math.prod(dims))
    return OnnxTensor(name=draft.name, dtype=draft.dtype, dims=dims, payload=payload)


def _take(session: ReadSession, draft: _Draft, found: Field, depth: int) -> None:
    walker = session.walker
    number, _, value, end = found
    if number == 1:
        _take_dims(session, draft.dims, found)
    elif number in _DATA_FIELDS:
        _take_data(session, draft, found)
    elif number in (2, 14):
        walker.expect(found, VARINT, "TensorProto")
        if number == 2:
            draft.dtype = signed32(value)
        else:
            draft.location = signed32(value)
    elif number in (6, 8, 9, 13):
        walker.expect(found, LENGTH, "TensorProto")
        _take_span(session, draft, number, value, end, depth)
    elif number == 3:
        raise walker.malformed(value, f"tensor {draft.name!r}", "segmented tensors are not supported")


def _take_span(session: ReadSession, draft: _Draft, number: int, start: int, end: int, depth: int) -> None:
    """Strings, the name, raw data and external data entries."""
    walker = session.walker
    if number == 9:
        if draft.raw is not None:
            raise walker.malformed(start, f"tensor {draft.name!r}", "raw_data is given twice")
        draft.raw = (start, end)
    elif number == 8:
        draft.name = walker.text(start, end, "a tensor name")
    elif number == 6:
        draft.strings += 1
        draft.string_bytes += end - start
    else:
        key, text = decode_entry(walker, start, end, depth)
        if key in draft.external:
            raise walker.malformed(start, f"tensor {draft.name!r}", f"external data gives {key!r} twice")
        draft.external[key] = text


def _take_dims(session: ReadSession, dims: list[int], found: Field) -> None:
    walker = session.walker
    _, wire, value, end = found
    if wire != LENGTH:
        walker.expect(found, VARINT, "dims")
        dims.append(signed64(value))
    else:
        for item in walker.varints(value, end):
            dims.append(signed64(item))
            if len(dims) > walker.limits.rank:
                break
    if len(dims) > walker.limits.rank:
        raise walker.over("axes", len(dims), walker.limits.rank, f"the tensor at byte {value}")


def _take_data(session: ReadSession, draft: _Draft, found: Field) -> None:
    """Remember where one packed run, or one unpacked element, of a typed field is."""
    walker = session.walker
    number, wire, value, end = found
    data_field, element_wire = _DATA_FIELDS[number]
    if draft.data_field not in (None, data_field):
        reason = f"it has both {draft.data_field} and {data_field}"
        raise walker.malformed(end, f"tensor {draft.name!r}", reason)
    if wire != LENGTH:
        walker.expect(found, element_wire, "TensorProto")
    if wire == VARINT:
        value = _varint_start(session, end)
    if wire == LENGTH and element_wire in _WIDTHS and (end - value) % _WIDTHS[element_wire]:
        raise walker.malformed(value, f"tensor {draft.name!r}", f"{data_field} ends inside an element")
    draft.data_field = data_field
    if end > value:
        draft.pieces.append(Piece(value, end - value))
    if len(draft.pieces) > walker.limits.payload_pieces:
        allowed = walker.limits.payload_pieces
        raise walker.over("pieces of data", len(draft.pieces), allowed, f"tensor {draft.name!r}")


def _varint_start(session: ReadSession, end: int) -> int:
    """Offset of the first byte of the varint that ends at `end`; its tag, also a varint, comes before it."""
    data, start = session.walker.source.buffer, end - 1
    while start > 0 and data[start - 1] >= 0x80:
        start -= 1
    return start


def _payload(session: ReadSession, draft: _Draft, data_type: DataType, elements: int) -> Payload:
    source = session.walker.source
    places = (draft.raw is not None, bool(draft.pieces), draft.strings > 0, draft.location == _EXTERNAL)
    if sum(places) > 1:
        raise _size(session, draft, "its data is stored in more than one place")
    if draft.location == _EXTERNAL:
        if data_type.code == STRING:
            raise _size(session, draft, "strings cannot be external data")
        return session.external.place(draft.name, draft.external, data_type.packed_bytes(elements))
    if data_type.code == STRING:
        if draft.strings != elements or draft.raw is not None or draft.pieces:
            reason = f"{draft.strings} strings are stored, its dimensions need {elements}"
            raise _size(session, draft, reason)
        return StringPayload(count=draft.strings, size_bytes=draft.string_bytes)
    if draft.strings:
        raise _size(session, draft, f"string_data cannot hold {data_type.name}")
    if draft.pieces:
        return _field_payload(session, draft, data_type, elements)
    begin, end = draft.raw if draft.raw is not None else (draft.start, draft.start)
    if end - begin != data_type.packed_bytes(elements):
        wanted = data_type.packed_bytes(elements)
        raise _size(session, draft, f"{end - begin} bytes are stored, type and dimensions need {wanted}")
    session.walker.count("inline bytes", session.walker.limits.inline_bytes, end - begin)
    return RawPayload(source=source, offset=begin, size_bytes=end - begin)


def _field_payload(session: ReadSession, draft: _Draft, data_type: DataType, elements: int) -> FieldPayload:
    if draft.data_field is None or draft.data_field != data_type.field:
        raise _size(session, draft, f"{draft.data_field} cannot hold {data_type.name}")
    size = sum(piece.size_bytes for piece in draft.pieces)
    items = stored_items(data_type, elements)
    width = {DataField.FLOAT: 4, DataField.DOUBLE: 8}.get(draft.data_field)
    low, high = (items * width, items * width) if width else (items, items * 10)
    if not low <= size <= high:
        reason = f"{draft.data_field} has {size} bytes, its dimensions need {items} elements"
        raise _size(session, draft, reason)
    session.walker.count("inline bytes", session.walker.limits.inline_bytes, size)
    return FieldPayload(
        source=session.walker.source, field=draft.data_field, pieces=tuple(draft.pieces), size_bytes=size
    )


def stored_items(data_type: DataType, elements: int) -> int:
    """Entries of the typed field that hold `elements` elements: complex take two, 4 and 2 bits share one."""
    if data_type.name.startswith("complex"):
        return 2 * elements
    if data_type.bits in (2, 4):
        return data_type.packed_bytes(elements)
    return elements


def verify_dims(session: ReadSession, dims: tuple[int | str | None, ...], offset: int, place: str) -> None:
    """Refuse negative dimensions, too many axes, and more elements than the limits allow.

    Raises:
        ShapeError: naming the place.
    """
    limits = session.walker.limits
    reason = ""
    sizes = [dim for dim in dims if isinstance(dim, int)]
    if len(dims) > limits.rank:
        reason = f"more than {limits.rank} axes"
    elif any(size < 0 for size in sizes):
        reason = "a dimension is negative"
    elif math.prod(size for size in sizes if size) > limits.elements:
        reason = f"more than {limits.elements} elements"
    if reason:
        raise ShapeError(
            file=session.walker.source.name, offset=offset, place=place, dims=dims[:8], reason=reason
        )


def decode_sparse_tensor(session: ReadSession, start: int, end: int, depth: int) -> OnnxSparseTensor:
    """The sparse tensor message in bytes [start, end)."""
    walker = session.walker
    depth = walker.enter(depth, start)
    parts: dict[int, OnnxTensor] = {}
    dims: list[int] = []
    for found in walker.fields(start, end):
        number, _, value, stop = found
        if number in (1, 2):
            walker.expect(found, LENGTH, "SparseTensorProto")
            if number in parts:
                raise walker.malformed(value, "a sparse tensor", "values or indices are given twice")
            parts[number] = decode_tensor(session, value, stop, depth)
        elif number == 3:
            _take_dims(session, dims, found)
    if len(parts) != 2:
        raise walker.malformed(start, "a sparse tensor", "values or indices are missing")
    verify_dims(session, tuple(dims), start, f"sparse tensor {parts[1].name!r}")
    return OnnxSparseTensor(values=parts[1], indices=parts[2], dims=tuple(dims))


def _size(session: ReadSession, draft: _Draft, reason: str) -> PayloadSizeError:
    return PayloadSizeError(
        file=session.walker.source.name, offset=draft.start, tensor=draft.name, reason=reason
    )
