"""The W3C `traceparent` of a request: read, or begun."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

__all__ = ["TraceContext", "new_span_id", "open_context"]

_SHAPE = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_NONE = 0
_SAMPLED = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceContext:
    """The trace of a request, the span of its caller (0: none), and whether it is kept."""

    trace_id: int
    parent_id: int
    is_sampled: bool


def open_context(traceparent: str) -> TraceContext:
    """The caller's context, or a new one where there is none that can be read."""
    match = _SHAPE.fullmatch(traceparent)
    if match is not None and match[1] != "ff" and (match[1] != "00" or len(traceparent) == 55):
        trace_id, parent_id = int(match[2], 16), int(match[3], 16)
        if trace_id and parent_id:
            return TraceContext(
                trace_id=trace_id, parent_id=parent_id, is_sampled=bool(int(match[4], 16) & _SAMPLED)
            )
    return TraceContext(trace_id=secrets.randbits(128) or 1, parent_id=_NONE, is_sampled=True)


def new_span_id() -> int:
    """A random id, never 0."""
    return secrets.randbits(64) or 1
