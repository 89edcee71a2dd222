"""Rate monotonic: the task with the shortest period first, then order of arrival."""

from __future__ import annotations

from typing import Any, ClassVar

from plumbline.scheduling.policy import Key
from plumbline.scheduling.request import ExecutionRequest

__all__ = ["NO_PERIOD", "RateMonotonicPolicy"]

NO_PERIOD = (1 << 63) - 1
"""Stands in a key where there is no period."""


class RateMonotonicPolicy:
    """Key: (period, arrival). A request without a period goes after all that have one."""

    name: ClassVar[str] = "rate_monotonic"
    starves: ClassVar[bool] = True
    starvation: ClassVar[str] = (
        "a request waits as long as requests of shorter period keep arriving; within an admitted task set "
        "the wait is bounded, and a request without a period may wait for ever"
    )

    def enter(self, request: ExecutionRequest, arrival: int) -> Key:
        """The period, then arrival."""
        return (NO_PERIOD if request.period_ns is None else request.period_ns, arrival)

    def leave(self, request: ExecutionRequest, key: Key, *, selected: bool) -> None:
        """Nothing is remembered."""

    def reason(self, request: ExecutionRequest, key: Key) -> str:
        """Its period."""
        if key[0] == NO_PERIOD:
            return f"no periodic task could run; it arrived first of the rest (arrival {key[-1]})"
        return f"shortest period of those that could run ({key[0]} ns)"

    def compare(self, winner: Key, loser: Key) -> str:
        """Both periods."""
        if winner[0] == loser[0]:
            return f"equal period, it arrived later (arrival {loser[-1]} after {winner[-1]})"
        if loser[0] == NO_PERIOD:
            return "it belongs to no periodic task"
        return f"its period {loser[0]} ns is longer than {winner[0]} ns"

    def state(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Nothing."""
