"""`SchedulingPolicy`: who goes first. The port that FIFO, priority, fair, EDF and rate-monotonic implement.

A policy gives each request a key when it enters the queue; the lowest key goes first. The queue is a heap
over keys, so selection is O(log n) whatever the policy (requirement L4-22). A policy keeps its own state
(the fair
policy: virtual time), changes it only in `enter` and `leave`, and can write it down and take it back,
because a decision log replays from a snapshot.
"""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

from plumbline.scheduling.request import ExecutionRequest

__all__ = ["Key", "SchedulingPolicy"]

Key = tuple[int, ...]
"""Compared element by element, lower first. Ends with the arrival number, so two keys never tie."""


class SchedulingPolicy(Protocol):
    """Decides an order. Deterministic: equal calls give equal keys."""

    name: ClassVar[str]

    def enter(self, request: ExecutionRequest, arrival: int) -> Key:
        """The key of a request that enters the queue.

        Args:
            request: that enters.
            arrival: its number in arrival order, from 0; the last element of the key.
        """

    def leave(self, request: ExecutionRequest, key: Key, *, selected: bool) -> None:
        """The request left the queue: `selected` to run, or cancelled or expired."""

    def reason(self, request: ExecutionRequest, key: Key) -> str:
        """Why this request goes first, in plain words with the values that decided."""

    def compare(self, winner: Key, loser: Key) -> str:
        """Why `loser` waits behind `winner`, in plain words."""

    def state(self) -> dict[str, Any]:
        """What the policy remembers, as plain JSON values."""

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave."""
