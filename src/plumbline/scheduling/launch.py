"""What the decision core answers: a launch, or a time to ask again."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from plumbline.scheduling.policy import Key
from plumbline.scheduling.request import ExecutionRequest

__all__ = ["Hold", "Launch", "SelectionReason"]


class SelectionReason(StrEnum):
    """Why a launch was made now. Why its head went first follows from the keys."""

    ALONE = "alone"
    """The head takes no company."""
    FILLED = "filled"
    """A bound of the launch is reached."""
    DUE = "due"
    """The head, or one that goes with it, was held back as long as it may be, or may not be at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """Requests to run together.

    Attributes:
        number: of the launch, from 0.
        requests: the head first, then in policy order.
        key: of the head.
        reason: why now.
        stream: where.
    """

    number: int
    requests: tuple[ExecutionRequest, ...]
    key: Key
    reason: SelectionReason
    stream: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Nothing to run before `until_ns`, when a launch stops waiting for company; ask again on any change."""

    until_ns: int
