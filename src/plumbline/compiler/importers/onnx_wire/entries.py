"""The two-field messages: key and value, domain and version."""

from __future__ import annotations

from plumbline.compiler.importers.onnx_wire.wire import LENGTH, VARINT, Walker, signed64

__all__ = ["add_opset", "decode_domain", "decode_entry"]

_DEFAULT_DOMAIN = "ai.onnx"


def decode_entry(walker: Walker, start: int, end: int, depth: int) -> tuple[str, str]:
    """Key and value of a StringStringEntryProto in bytes [start, end)."""
    walker.enter(depth, start)
    walker.count("metadata entries", walker.limits.entries)
    key = value = ""
    for found in walker.fields(start, end):
        number, _, begin, stop = found
        if number in (1, 2):
            walker.expect(found, LENGTH, "StringStringEntryProto")
        if number == 1:
            key = walker.text(begin, stop, "a metadata key")
        elif number == 2:
            value = walker.text(begin, stop, "a metadata value", walker.limits.text_bytes)
    return key, value


def decode_domain(text: str) -> str:
    """An operator domain; the default domain has two spellings and is `""` here."""
    return "" if text == _DEFAULT_DOMAIN else text


def add_opset(walker: Walker, known: dict[str, int], start: int, end: int, depth: int) -> None:
    """Add the OperatorSetIdProto in bytes [start, end) to `known`.

    Raises:
        MalformedMessageError: the domain is imported in two versions.
    """
    walker.enter(depth, start)
    domain, version = "", 0
    for found in walker.fields(start, end):
        number, _, value, stop = found
        if number == 1:
            walker.expect(found, LENGTH, "OperatorSetIdProto")
            domain = decode_domain(walker.text(value, stop, "an operator domain"))
        elif number == 2:
            walker.expect(found, VARINT, "OperatorSetIdProto")
            version = signed64(value)
    if known.get(domain, version) != version:
        reason = f"versions {known[domain]} and {version} are both imported"
        raise walker.malformed(start, f"operator domain {domain!r}", reason)
    known[domain] = version
    walker.count("opset imports", walker.limits.entries)
