"""Protocol-buffer wire format: a message is walked as a flat series of fields, nothing is copied.

Source: the published encoding of protocol buffers (varints, fixed 32 and 64 bits, length-delimited). We
differ in being strict: groups, field number 0, varints over 64 bits and lengths beyond the enclosing message
are refused with their byte offset. Unknown fields are skipped, as the format asks.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from plumbline.compiler.importers.limits import ImportLimitError, ImportLimits
from plumbline.compiler.importers.payload import ByteSource
from plumbline.errors import ArtifactError

__all__ = [
    "FIXED32",
    "FIXED64",
    "LENGTH",
    "VARINT",
    "BadVarintError",
    "Field",
    "InvalidTextError",
    "MalformedMessageError",
    "TruncatedMessageError",
    "Walker",
    "WrongWireTypeError",
    "signed32",
    "signed64",
]

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
_TAG_END = 1 << 32
_WIRE_NAMES = {VARINT: "varint", FIXED64: "64-bit", LENGTH: "length-delimited", FIXED32: "32-bit"}

Field = tuple[int, int, int, int]
"""Field number, wire type, then two integers: value and end of a varint, else start and end of the bytes."""


@dataclass(eq=False, kw_only=True)
class TruncatedMessageError(ArtifactError):
    """A value extends beyond its message or beyond the end of the file."""

    code = "artifact.onnx.truncated"
    owner = "compiler.importers"
    template = "{file}, byte {offset}: {what} extends beyond its end at byte {end}"

    file: str
    offset: int
    what: str
    end: int


@dataclass(eq=False, kw_only=True)
class BadVarintError(ArtifactError):
    """A variable-length integer has more than 64 bits."""

    code = "artifact.onnx.bad_varint"
    owner = "compiler.importers"
    template = "{file}, byte {offset}: a variable-length integer has more than 64 bits"

    file: str
    offset: int


@dataclass(eq=False, kw_only=True)
class WrongWireTypeError(ArtifactError):
    """A field is encoded in a way that its type does not have."""

    code = "artifact.onnx.wrong_wire_type"
    owner = "compiler.importers"
    template = "{file}, byte {offset}: field {field} of {holder} is encoded as {found}, not as {expected}"

    file: str
    offset: int
    holder: str
    field: int
    found: str
    expected: str


@dataclass(eq=False, kw_only=True)
class InvalidTextError(ArtifactError):
    """A name is not valid UTF-8."""

    code = "artifact.onnx.invalid_text"
    owner = "compiler.importers"
    template = "{file}, byte {offset}: {place} is not UTF-8 text"

    file: str
    offset: int
    place: str


@dataclass(eq=False, kw_only=True)
class MalformedMessageError(ArtifactError):
    """The encoding can be read but does not say a possible model."""

    code = "artifact.onnx.malformed"
    owner = "compiler.importers"
    template = "{file}, byte {offset}: {place}: {reason}"

    file: str
    offset: int
    place: str
    reason: str


@dataclass(slots=True, kw_only=True)
class Walker:
    """Walks messages of one file and counts against the limits. Owner: one `read_model` call."""

    source: ByteSource
    limits: ImportLimits
    counts: dict[str, int] = field(default_factory=dict)
    _fields: int = 0
    _text_bytes: int = 0

    def fields(self, start: int, end: int) -> Iterator[Field]:
        """The fields of the message in bytes [start, end).

        Raises:
            TruncatedMessageError, BadVarintError, MalformedMessageError: naming the byte.
            ImportLimitError: the file has more fields than allowed.
        """
        data, most = self.source.buffer, self.limits.fields
        position = start
        while position < end:
            tag = data[position]
            position += 1
            if tag >= 0x80:
                tag, position = self.varint(position - 1, end)
            wire = tag & 7
            if wire == LENGTH or wire == VARINT:  # noqa: SIM109 - the hottest comparison
                if position < end and data[position] < 0x80:
                    value = data[position]
                    position += 1
                else:
                    value, position = self.varint(position, end)
                if wire == LENGTH:
                    value, position = position, position + value
            else:
                value, position = position, position + self._fixed_width(wire, position)
            if position > end:
                raise self.truncated(value, f"field {tag >> 3} of {position - value} bytes", end)
            self._fields += 1
            if self._fields > most or not 8 <= tag < _TAG_END:
                raise self._refused_field(tag, position)
            yield tag >> 3, wire, value, position

    def _fixed_width(self, wire: int, position: int) -> int:
        if wire == FIXED32:
            return 4
        if wire == FIXED64:
            return 8
        raise self.malformed(position, "a field", f"wire type {wire} is not used by ONNX")

    def _refused_field(self, tag: int, position: int) -> ArtifactError:
        if not 8 <= tag < _TAG_END:
            return self.malformed(position, "a field", f"there is no field number {tag >> 3}")
        return self.over("fields", self._fields, self.limits.fields, "the file")

    def varint(self, position: int, end: int) -> tuple[int, int]:
        """The unsigned 64-bit integer at `position` and the offset after it."""
        data, value, shift, start = self.source.buffer, 0, 0, position
        while position < end:
            byte = data[position]
            position += 1
            if shift == 63 and byte > 1:
                raise BadVarintError(file=self.source.name, offset=start)
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, position
            shift += 7
        raise self.truncated(start, "a variable-length integer", end)

    def varints(self, start: int, end: int) -> Iterator[int]:
        """The packed unsigned integers in bytes [start, end)."""
        while start < end:
            value, start = self.varint(start, end)
            yield value

    def text(self, start: int, end: int, place: str, limit: int | None = None) -> str:
        """The UTF-8 text in bytes [start, end), at most `limit` bytes (default: the limit for names)."""
        allowed = self.limits.name_bytes if limit is None else limit
        if end - start > allowed:
            raise self.over("bytes", end - start, allowed, f"{place} at byte {start}")
        self._text_bytes += end - start
        if self._text_bytes > self.limits.total_text_bytes:
            raise self.over("bytes of text", self._text_bytes, self.limits.total_text_bytes, "the file")
        try:
            return str(self.source.buffer[start:end], "utf-8")
        except UnicodeDecodeError as error:
            offset = start + error.start
            raise InvalidTextError(file=self.source.name, offset=offset, place=place) from error

    def float32(self, start: int) -> float:
        """The 32-bit float at `start`."""
        return float(struct.unpack_from("<f", self.source.buffer, start)[0])

    def expect(self, found: Field, wire: int, holder: str) -> None:
        """Raise `WrongWireTypeError` unless the field has this wire type."""
        if found[1] != wire:
            raise WrongWireTypeError(
                file=self.source.name,
                offset=found[3],
                holder=holder,
                field=found[0],
                found=_WIRE_NAMES[found[1]],
                expected=_WIRE_NAMES[wire],
            )

    def enter(self, depth: int, start: int) -> int:
        """The depth of a message nested in one at `depth`, refused over the limit."""
        if depth >= self.limits.depth:
            raise self.over("levels of nesting", depth + 1, self.limits.depth, f"the message at byte {start}")
        return depth + 1

    def count(self, what: str, allowed: int, amount: int = 1) -> None:
        """Add to a count that holds for the whole file."""
        total = self.counts.get(what, 0) + amount
        self.counts[what] = total
        if total > allowed:
            raise self.over(what, total, allowed, "the file")

    def over(self, limit: str, found: int, allowed: int, place: str) -> ImportLimitError:
        """The error for a limit that is exceeded."""
        return ImportLimitError(file=self.source.name, place=place, limit=limit, found=found, allowed=allowed)

    def malformed(self, offset: int, place: str, reason: str) -> MalformedMessageError:
        """The error for an encoding that says nothing possible."""
        return MalformedMessageError(file=self.source.name, offset=offset, place=place, reason=reason)

    def truncated(self, offset: int, what: str, end: int) -> TruncatedMessageError:
        """The error for a value that does not fit its message."""
        return TruncatedMessageError(file=self.source.name, offset=offset, what=what, end=end)


def signed64(value: int) -> int:
    """An int64 from its unsigned wire value."""
    return value - (1 << 64) if value >= 1 << 63 else value


def signed32(value: int) -> int:
    """An int32 from its wire value, which is sign-extended to 64 bits; upper bits are dropped."""
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >= 1 << 31 else value
