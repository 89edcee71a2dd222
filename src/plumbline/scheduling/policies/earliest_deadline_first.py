"""Earliest deadline first (requirement L4-66); without a deadline last, by priority."""

from __future__ import annotations

from typing import Any, ClassVar

from plumbline.contracts.requests import HIGHEST_PRIORITY
from plumbline.scheduling.policy import Key
from plumbline.scheduling.request import ExecutionRequest

__all__ = ["NO_DEADLINE", "EarliestDeadlineFirstPolicy"]

NO_DEADLINE = (1 << 63) - 1
"""Stands in a key where there is no deadline."""


class EarliestDeadlineFirstPolicy:
    """Key: (deadline, urgency, arrival). Urgency is 9 - priority without a deadline, and 0 with one: among
    deadlines nothing but their order and that of arrival counts, as the admission tests assume.
    """

    name: ClassVar[str] = "edf"
    starves: ClassVar[bool] = True
    starvation: ClassVar[str] = (
        "a request without a deadline waits as long as requests with one, or of higher priority, keep "
        "arriving; one with a deadline is overtaken only by earlier deadlines, and expires"
    )

    def enter(self, request: ExecutionRequest, arrival: int) -> Key:
        """The absolute deadline, or the priority of what has none, then arrival."""
        if request.deadline_ns is None:
            return (NO_DEADLINE, HIGHEST_PRIORITY - request.priority, arrival)
        return (request.deadline_ns, 0, arrival)

    def leave(self, request: ExecutionRequest, key: Key, *, selected: bool) -> None:
        """Nothing is remembered."""

    def reason(self, request: ExecutionRequest, key: Key) -> str:
        """Its deadline."""
        if key[0] == NO_DEADLINE:
            return (
                f"nothing with a deadline could run; highest priority of the rest ({_priority(key)}), then "
                f"arrival ({key[-1]})"
            )
        return f"earliest deadline of those that could run ({key[0]} ns)"

    def compare(self, winner: Key, loser: Key) -> str:
        """Both deadlines."""
        if winner[0] == loser[0] and winner[1] != loser[1]:
            return f"no deadline either, its priority {_priority(loser)} is lower than {_priority(winner)}"
        if winner[0] == loser[0]:
            return f"equal deadline, it arrived later (arrival {loser[-1]} after {winner[-1]})"
        if loser[0] == NO_DEADLINE:
            return "it has no deadline"
        return f"its deadline is {(loser[0] - winner[0]) / 1e6:.3f} ms later"

    def state(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Nothing."""


def _priority(key: Key) -> int:
    return HIGHEST_PRIORITY - key[1]
