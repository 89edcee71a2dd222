"""Messages of `/ws`: JSON documents with a schema version, read strictly, written plainly."""

from __future__ import annotations

import json
from typing import Annotated, Any

import msgspec

from plumbline.contracts.clock import rfc3339
from plumbline.serving.events.refusals import SocketMessageRefused
from plumbline.serving.ports import RuntimeEvent

__all__ = [
    "MESSAGE_SCHEMA",
    "Authenticate",
    "ClientMessage",
    "Ping",
    "Pong",
    "Subscribe",
    "event_document",
    "message_text",
    "parse_message",
]

MESSAGE_SCHEMA = 1

_Word = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]


class Authenticate(msgspec.Struct, frozen=True, tag="authenticate", forbid_unknown_fields=True):
    """The first message of a browser, which cannot set headers."""

    key: _Word


class Subscribe(msgspec.Struct, frozen=True, tag="subscribe", forbid_unknown_fields=True):
    """What to send from now on, or from behind a cursor. Replaces what was asked before.

    Attributes:
        after: sequence of the last event that the client had; None begins now.
        kinds: `task` means `task.*`; empty for all.
        subjects: such as task ids; empty for all.
    """

    after: Annotated[int, msgspec.Meta(ge=0)] | None = None
    kinds: tuple[_Word, ...] = ()
    subjects: tuple[_Word, ...] = ()


class Ping(msgspec.Struct, frozen=True, tag="ping", forbid_unknown_fields=True):
    """Are you there?"""


class Pong(msgspec.Struct, frozen=True, tag="pong", forbid_unknown_fields=True):
    """I am here."""


ClientMessage = Authenticate | Subscribe | Ping | Pong
_DECODER: msgspec.json.Decoder[Any] = msgspec.json.Decoder(ClientMessage)


def parse_message(text: str | bytes) -> ClientMessage:
    """A message of a client.

    Raises:
        SocketMessageRefused: it is not one; says where.
    """
    try:
        message: ClientMessage = _DECODER.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise SocketMessageRefused(reason=str(error)[:200]) from None
    return message


def message_text(kind: str, **fields: Any) -> str:
    """A message of the server."""
    return json.dumps({"schema": MESSAGE_SCHEMA, "type": kind, **fields}, separators=(",", ":"))


def event_document(event: RuntimeEvent) -> dict[str, Any]:
    """An event as clients read it."""
    return {
        "sequence": event.sequence,
        "kind": event.kind,
        "subject": event.subject,
        "at": rfc3339(event.wall_ns),
        "fields": dict(event.fields),
    }
