"""An attribute while its fields arrive, and the value they make once all are there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

from plumbline.compiler.importers.onnx_wire.records import AttributeKind, AttributeValue, OnnxAttribute
from plumbline.compiler.importers.onnx_wire.wire import Walker

__all__ = ["AttributeDraft", "finish_attribute"]

_LISTS = frozenset(
    {
        AttributeKind.FLOATS,
        AttributeKind.INTS,
        AttributeKind.STRINGS,
        AttributeKind.TENSORS,
        AttributeKind.GRAPHS,
        AttributeKind.SPARSE_TENSORS,
        AttributeKind.TYPES,
    }
)
_NUMBERS_AND_TEXT = (AttributeKind.FLOAT, AttributeKind.INT, AttributeKind.STRING)
_DEFAULTS: dict[AttributeKind, AttributeValue] = {
    AttributeKind.FLOAT: 0.0,
    AttributeKind.INT: 0,
    AttributeKind.STRING: "",
}


@dataclass(slots=True)
class AttributeDraft:
    """Values by the kind of field that held them. Owner: the decoder of one attribute."""

    start: int
    name: str = ""
    reference: str = ""
    declared: int = 0
    values: dict[AttributeKind, list[object]] = field(default_factory=dict)

    def values_of(self, kind: AttributeKind) -> list[object]:
        """The list that collects values of one kind."""
        return self.values.setdefault(kind, [])


def finish_attribute(walker: Walker, draft: AttributeDraft) -> OnnxAttribute:
    """The record of a complete attribute.

    A file may leave out a zero, an empty string and an empty list; files of the first format version leave
    out the type.

    Raises:
        MalformedMessageError: no name, an unknown type, a type that the fields contradict, a missing message.
    """
    place = f"attribute {draft.name!r}"
    if not draft.name:
        raise walker.malformed(draft.start, "an attribute", "it has no name")
    kind = _kind(walker, draft, place)
    foreign = [other for other in draft.values if other is not kind]
    if draft.reference:
        if draft.values:
            raise walker.malformed(draft.start, place, "it has both a value and a reference")
        return OnnxAttribute(name=draft.name, type=kind, value=None, ref_attr_name=draft.reference)
    if foreign:
        reason = f"it is declared {kind.name} and holds {foreign[0].name}"
        raise walker.malformed(draft.start, place, reason)
    return OnnxAttribute(name=draft.name, type=kind, value=_value(walker, draft, kind, place))


def _kind(walker: Walker, draft: AttributeDraft, place: str) -> AttributeKind:
    if draft.declared != AttributeKind.UNDEFINED:
        try:
            return AttributeKind(draft.declared)
        except ValueError as error:
            reason = f"type {draft.declared} is unknown"
            raise walker.malformed(draft.start, place, reason) from error
    if len(draft.values) != 1:
        raise walker.malformed(draft.start, place, "its type is not declared and cannot be told")
    return next(iter(draft.values))


def _value(walker: Walker, draft: AttributeDraft, kind: AttributeKind, place: str) -> AttributeValue:
    values = draft.values.get(kind, [])
    if kind in _LISTS:
        return cast(AttributeValue, tuple(values))
    if not values:
        if kind not in _DEFAULTS:
            raise walker.malformed(draft.start, place, f"its {kind.name} is missing")
        return _DEFAULTS[kind]
    if len(values) > 1 and kind not in _NUMBERS_AND_TEXT:
        raise walker.malformed(draft.start, place, f"its {kind.name} is given twice")
    return cast(AttributeValue, values[-1])
