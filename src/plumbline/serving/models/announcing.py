"""`Announce`: how the parts of this package tell whoever watches that something happened."""

from __future__ import annotations

from typing import Any, Protocol

__all__ = ["Announce", "say_nothing"]


class Announce(Protocol):
    """Such as `EventService.publish`. Never blocks."""

    def __call__(self, kind: str, subject: str, **fields: Any) -> None:
        """`kind` is dotted, `subject` is `model@version` or a worker, fields are names and numbers."""


def say_nothing(kind: str, subject: str, **fields: Any) -> None:
    """Nobody watches."""
