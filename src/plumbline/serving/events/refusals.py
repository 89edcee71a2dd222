"""What a subscriber is refused or dropped for."""

from __future__ import annotations

from dataclasses import dataclass

from plumbline.errors import PolicyError, Recoverability, ResourceError, ValidationError

__all__ = [
    "CursorAhead",
    "CursorTooOld",
    "SocketIdle",
    "SocketLimitReached",
    "SocketMessageRefused",
    "SocketOriginRefused",
    "SubscriberTooSlow",
]


@dataclass(eq=False, kw_only=True)
class CursorTooOld(ValidationError):
    """The history does not reach back to the cursor, which may be of an earlier run: events were missed.
    State is read by GET, then events from now."""

    code = "validation.event_cursor_too_old"
    owner = "serving.events"
    http_status = 410
    template = "events after {cursor} are no longer all there; the oldest is {oldest}"

    cursor: int
    oldest: int


@dataclass(eq=False, kw_only=True)
class CursorAhead(ValidationError):
    """The cursor is of another gateway, or of a run whose clock was ahead."""

    code = "validation.event_cursor_ahead"
    owner = "serving.events"
    template = "cursor {cursor} is not of this gateway's present history, whose newest event is {newest}"

    cursor: int
    newest: int


@dataclass(eq=False, kw_only=True)
class SubscriberTooSlow(ResourceError):
    """A subscriber let more events wait than are kept for it, and was dropped. Others did not notice."""

    code = "resource.subscriber_too_slow"
    recoverability = Recoverability.TRANSIENT
    owner = "serving.events"
    template = "{limit} events waited for this subscriber; resume after cursor {cursor}"

    limit: int
    cursor: int
    retry_after_s: float = 0.0


@dataclass(eq=False, kw_only=True)
class SocketMessageRefused(ValidationError):
    """A message that is not one of the protocol."""

    code = "validation.socket_message"
    owner = "serving.events"
    template = "message: {reason}"

    reason: str


@dataclass(eq=False, kw_only=True)
class SocketOriginRefused(PolicyError):
    """A page of a foreign origin opened the event socket."""

    code = "policy.socket_origin"
    owner = "serving.events"
    template = "pages of origin {origin!r} may not open the event socket"

    origin: str


@dataclass(eq=False, kw_only=True)
class SocketLimitReached(ResourceError):
    """A client sends too much, or has too many connections open."""

    code = "resource.socket_limit"
    recoverability = Recoverability.TRANSIENT
    owner = "serving.events"
    http_status = 429
    template = "{what}: at most {limit}"

    what: str
    limit: int
    retry_after_s: float = 1.0


@dataclass(eq=False, kw_only=True)
class SocketIdle(ResourceError):
    """A client said nothing for too long, or took nothing."""

    code = "resource.socket_idle"
    recoverability = Recoverability.TRANSIENT
    owner = "serving.events"
    http_status = 408
    template = "{what} within {timeout_s} s"

    what: str
    timeout_s: float
    retry_after_s: float = 0.0
