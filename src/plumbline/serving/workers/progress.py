"""Is a worker alive? Decided from counters in its shared file, without asking it (pure).

A look counts for no more than two intervals, so a gateway that was itself held up does not blame its workers.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Look", "ProgressWatch"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What the gateway saw.

    Attributes:
        at_ns: when, absolute monotonic.
        beats: of the main thread.
        steps: of the engine loop.
        busy: the worker has calls to answer.
        bound_ns: within which a busy engine must step.
        floor_ns: within which a thread must beat.
    """

    at_ns: int
    beats: int
    steps: int
    busy: bool
    bound_ns: int
    floor_ns: int


class ProgressWatch:
    """Owner of what was last seen of one generation."""

    def __init__(self, interval_ns: int) -> None:
        self._most_ns = 2 * interval_ns
        self._last: Look | None = None
        self._without_beat_ns = 0
        self._without_step_ns = 0

    def observe(self, look: Look) -> str | None:
        """Why the worker is stalled, or None."""
        last, self._last = self._last, look
        if last is None:
            return None
        passed_ns = min(look.at_ns - last.at_ns, self._most_ns)
        self._without_beat_ns = 0 if look.beats != last.beats else self._without_beat_ns + passed_ns
        stepped = look.steps != last.steps or not look.busy or not last.busy
        self._without_step_ns = 0 if stepped else self._without_step_ns + passed_ns
        if self._without_beat_ns > look.floor_ns:
            return f"no sign of life for {self._without_beat_ns / 1e9:.3f} s"
        bound_ns = max(look.bound_ns, look.floor_ns)
        if self._without_step_ns > bound_ns:
            return (
                f"busy without a step for {self._without_step_ns / 1e9:.3f} s, bound {bound_ns / 1e9:.3f} s"
            )
        return None
