"""Strict priority, then order of arrival (requirements L4-07, L4-43)."""

from __future__ import annotations

from typing import Any, ClassVar

from plumbline.contracts.requests import HIGHEST_PRIORITY
from plumbline.scheduling.policy import Key
from plumbline.scheduling.request import ExecutionRequest

__all__ = ["PriorityPolicy"]


class PriorityPolicy:
    """Higher priority first. Key: (9 - priority, arrival)."""

    name: ClassVar[str] = "priority"
    starves: ClassVar[bool] = True
    starvation: ClassVar[str] = (
        "a request waits as long as requests of higher priority keep arriving; give it a start_by time to be "
        "told, or use the fair policy"
    )

    def enter(self, request: ExecutionRequest, arrival: int) -> Key:
        """Urgency, then arrival."""
        return (HIGHEST_PRIORITY - request.priority, arrival)

    def leave(self, request: ExecutionRequest, key: Key, *, selected: bool) -> None:
        """Nothing is remembered."""

    def reason(self, request: ExecutionRequest, key: Key) -> str:
        """Its priority."""
        return f"highest priority of those that could run ({_priority(key)}), then arrival ({key[-1]})"

    def compare(self, winner: Key, loser: Key) -> str:
        """Both priorities, or both arrivals."""
        if winner[0] != loser[0]:
            return f"its priority {_priority(loser)} is lower than {_priority(winner)}"
        return f"equal priority {_priority(loser)}, it arrived later (arrival {loser[-1]} after {winner[-1]})"

    def state(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Nothing."""


def _priority(key: Key) -> int:
    return HIGHEST_PRIORITY - key[0]
