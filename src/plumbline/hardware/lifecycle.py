"""Explicit lifecycles: a table of legal transitions, and one function that follows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from plumbline.errors import ValidationError

StateT = TypeVar("StateT", bound=StrEnum)
EventT = TypeVar("EventT", bound=StrEnum)


@dataclass(eq=False, kw_only=True)
class IllegalTransitionError(ValidationError):
    """An event arrived in a state that has no transition for it. Nothing was changed."""

    code = "validation.illegal_transition"
    owner = "hardware"
    template = "{subject}: {event!r} is not possible in state {state!r}"

    subject: str
    state: str
    event: str


def next_state(
    table: Mapping[tuple[StateT, EventT], StateT], state: StateT, event: EventT, *, subject: str
) -> StateT:
    """The state that follows.

    Raises:
        IllegalTransitionError: the table has no such transition.
    """
    if (state, event) not in table:
        raise IllegalTransitionError(subject=subject, state=state.value, event=event.value)
    return table[state, event]
