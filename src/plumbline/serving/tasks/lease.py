"""`Lease`: the right of one executor to change one running task, and how it is lost."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

from plumbline.contracts.clock import Clock
from plumbline.serving.ports import EventService
from plumbline.serving.tasks.documents import trace_id_of
from plumbline.serving.tasks.lifecycle import TaskEvent, apply
from plumbline.serving.tasks.record import TaskRecord, TaskState, request_id_of
from plumbline.serving.tasks.store import TaskStore

__all__ = ["Lease", "LeaseLost", "publish_state"]


class LeaseLost(Exception):
    """Another gateway has the task now, or it ended: nothing that is still done here counts. Told to the
    executor only, never to a client.
    """


class Lease:
    """Owns the present record of a running task. Changes go one after the other.

    Every change is a compare-and-set against the store. When it loses the race, the task is read again: if
    generation and owner are still ours (a client only asked for cancellation), the change is made again on
    what is there; otherwise the lease is lost.
    """

    def __init__(self, claimed: TaskRecord, store: TaskStore, events: EventService, clock: Clock) -> None:
        self.record = claimed
        self._store, self._events, self._clock = store, events, clock
        self._turn = asyncio.Lock()
        self.interrupted = asyncio.Event()
        """Set when somebody in this process wants the work to end: `record` or `release_wanted` says why."""
        self.release_wanted = False

    async def update(self, **changes: Any) -> None:
        """Set fields; every call is a sign of life.

        Raises:
            LeaseLost: see there.
        """
        async with self._turn:
            await self._exchange(lambda record: dataclasses.replace(record, **changes))

    async def reach(self, stage: str) -> None:
        """Enter a stage of the work, and tell.

        Raises:
            LeaseLost: see there.
        """
        await self.update(stage=stage, stalled=False)
        self._publish("task.progress", stage=stage)

    async def report_stall(self) -> None:
        """The task makes no progress.

        Raises:
            LeaseLost: see there.
        """
        await self.update(stalled=True)
        self._publish("task.stalled", stage=self.record.stage)

    async def end(self, event: TaskEvent, *, result: str | None = None, **changes: Any) -> None:
        """The one end of this claim: the result is kept in the same change, or not at all.

        Raises:
            LeaseLost: see there.
        """
        async with self._turn:
            await self._exchange(
                lambda record: apply(record, event, wall_ns=self._clock.wall_ns(), **changes), result
            )
        publish_state(self._events, self.record)

    def cancel_locally(self) -> None:
        """A client of this gateway asked for cancellation; the store says so too."""
        self.interrupted.set()

    def ask_release(self) -> None:
        """This gateway stops."""
        self.release_wanted = True
        self.interrupted.set()

    async def _exchange(self, change: Any, result: str | None = None) -> None:
        while True:
            stored = await self._store.exchange(self.record, change(self.record), result=result)
            if stored is not None:
                self.record = stored
                return
            self.record = await self._read_again()

    async def _read_again(self) -> TaskRecord:
        mine = self.record
        fresh = await self._store.find(mine.tenant, mine.id)
        if (
            fresh is None
            or fresh.state is not TaskState.RUNNING
            or (fresh.owner, fresh.generation) != (mine.owner, mine.generation)
        ):
            raise LeaseLost
        return fresh

    def _publish(self, kind: str, **fields: Any) -> None:
        record = self.record
        self._events.publish(
            kind, record.id, record.tenant, trace_id=trace_id_of(record.traceparent), **fields
        )


def publish_state(events: EventService, record: TaskRecord) -> None:
    """Tell those who watch which state a task is in: names and numbers, no payload."""
    fields: dict[str, Any] = {
        "status": record.state.value,
        "model": record.model,
        "claims": record.generation,
        "trace_id": trace_id_of(record.traceparent),
    }
    if record.generation:
        fields["request_id"] = request_id_of(record)
    if record.error is not None:
        fields["error"] = record.error.get("code")
    events.publish(f"task.{record.state.value}", record.id, record.tenant, **fields)
