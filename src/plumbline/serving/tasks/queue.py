"""`TaskQueue`: what runs next, in the order of the priority policy (requirement L4-43).

The queue is the store's: any gateway may take any queued task, and two never take the same one. This is its
front at one gateway, with a bell that rings when a task came.
"""

from __future__ import annotations

import asyncio
import dataclasses

from plumbline.contracts.clock import Clock
from plumbline.serving.tasks.lifecycle import TaskEvent, apply
from plumbline.serving.tasks.record import TaskRecord
from plumbline.serving.tasks.store import TaskStore

__all__ = ["TaskQueue"]

_HEADS = 8


class TaskQueue:
    """Owns the bell. One event loop.

    Args:
        store: where tasks are queued.
        clock: stamps the claims.
        owner: name of this gateway, unique among those of the store.
    """

    def __init__(self, store: TaskStore, clock: Clock, owner: str) -> None:
        self._store, self._clock, self.owner = store, clock, owner
        self._bell = asyncio.Event()

    def ring(self) -> None:
        """Something was queued."""
        self._bell.set()

    async def wait(self, timeout_s: float) -> None:
        """Until the bell rings or the time is over."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._bell.wait()
        except TimeoutError:
            return

    async def claim(self) -> TaskRecord | None:
        """The next task, now running and owned here; None when none is queued.

        Heads that other executors took meanwhile are passed over; when all of them were, the heads are read
        again: somebody made progress each time.
        """
        while True:
            self._bell.clear()
            heads = await self._store.heads(_HEADS)
            if not heads:
                return None
            for head in heads:
                claimed = apply(head, TaskEvent.CLAIM, wall_ns=self._clock.wall_ns(), owner=self.owner)
                stored = await self._store.exchange(head, dataclasses.replace(claimed, stage="claimed"))
                if stored is not None:
                    self._bell.set()  # there may be more, for another slot
                    return stored
