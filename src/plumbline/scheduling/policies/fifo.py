"""First come, first served (requirement L4-06)."""

from __future__ import annotations

from typing import Any, ClassVar

from plumbline.scheduling.policy import Key
from plumbline.scheduling.request import ExecutionRequest

__all__ = ["FifoPolicy"]


class FifoPolicy:
    """Order of arrival. Key: (arrival)."""

    name: ClassVar[str] = "fifo"
    starves: ClassVar[bool] = False
    starvation: ClassVar[str] = "nobody waits for ever: only those that came earlier go first"

    def enter(self, request: ExecutionRequest, arrival: int) -> Key:
        """The arrival number."""
        return (arrival,)

    def leave(self, request: ExecutionRequest, key: Key, *, selected: bool) -> None:
        """Nothing is remembered."""

    def reason(self, request: ExecutionRequest, key: Key) -> str:
        """Its place in the order of arrival."""
        return f"it arrived first of those that could run (arrival {key[-1]})"

    def compare(self, winner: Key, loser: Key) -> str:
        """Both arrival numbers."""
        return f"it arrived later (arrival {loser[-1]} after {winner[-1]})"

    def state(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Nothing."""
