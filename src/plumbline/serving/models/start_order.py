"""The order of a start: several versions are prepared at once, and loaded one after the other."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterator

__all__ = ["StartOrder", "Turn", "processors"]


def processors() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Turn:
    """The place of one version in the order of a start. Used on one event loop."""

    def __init__(self, preparing: asyncio.Semaphore, before: tuple[asyncio.Event, ...]) -> None:
        self._preparing, self._before = preparing, before
        self.is_over = asyncio.Event()

    @contextlib.asynccontextmanager
    async def to_prepare(self) -> AsyncIterator[None]:
        """Held while it is prepared; waits for room among those that are."""
        async with self._preparing:
            yield

    async def to_load(self) -> None:
        """Return when every version before it was loaded, or failed."""
        for event in self._before:
            await event.wait()

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """When this ends, in whatever way, nobody waits for the version any more."""
        try:
            yield
        finally:
            self.is_over.set()


class StartOrder:
    """Hands out turns, in the order in which versions are to be loaded.

    Args:
        at_once: versions that may be prepared at the same time.
    """

    def __init__(self, at_once: int) -> None:
        self._preparing = asyncio.Semaphore(max(at_once, 1))
        self._given: tuple[asyncio.Event, ...] = ()

    def next_turn(self) -> Turn:
        """The turn behind all that were given."""
        turn = Turn(self._preparing, self._given)
        self._given += (turn.is_over,)
        return turn
