"""What every gateway does for the store now and then: expired, abandoned and old tasks."""

from __future__ import annotations

from plumbline.contracts.clock import Clock
from plumbline.serving.ports import EventService
from plumbline.serving.tasks.lease import publish_state
from plumbline.serving.tasks.lifecycle import TaskEvent, apply
from plumbline.serving.tasks.options import TaskOptions
from plumbline.serving.tasks.record import TaskRecord
from plumbline.serving.tasks.refusals import TaskLost, TaskTimedOut
from plumbline.serving.tasks.store import TaskStore

__all__ = ["TaskUpkeep"]

_AT_ONCE = 500


class TaskUpkeep:
    """Owns what it saw of running tasks.

    A lease lapses when the revision of a running task has not moved for `lease_s` of this gateway's own
    monotonic clock, counted from when it first saw that revision. No two clocks are compared, so gateways
    whose wall clocks differ cannot take each other's work.
    """

    def __init__(self, store: TaskStore, events: EventService, clock: Clock, options: TaskOptions) -> None:
        self._store, self._events, self._clock, self._options = store, events, clock, options
        self._seen: dict[tuple[str, str], tuple[int, int]] = {}

    async def run_once(self) -> int:
        """One round; returns how many tasks went back to the queue."""
        await self.expire()
        await self.purge()
        return await self.take_back()

    async def expire(self) -> None:
        """End queued tasks whose time is over: they never run."""
        wall_ns = self._clock.wall_ns()
        for record in await self._store.overdue(wall_ns, _AT_ONCE):
            timeout_s = ((record.deadline_wall_ns or 0) - record.accepted_wall_ns) / 1e9
            error = TaskTimedOut(timeout_s=timeout_s, where="queued")
            await self._change(record, TaskEvent.EXPIRE, error.to_dict())

    async def take_back(self) -> int:
        """Queue tasks again whose lease lapsed; fail those that too many executors died on."""
        running = await self._store.running(_AT_ONCE)
        now_ns = self._clock.now_ns()
        before, self._seen = self._seen, {}
        returned = 0
        for record in running:
            key = (record.tenant, record.id)
            revision, since_ns = before.get(key, (-1, 0))
            if revision != record.revision:
                revision, since_ns = record.revision, now_ns
            if now_ns - since_ns < self._options.lease_s * 1e9:
                self._seen[key] = (revision, since_ns)
            else:
                returned += await self._abandoned(record)
        return returned

    async def purge(self) -> None:
        """Forget what ended long ago."""
        before_wall_ns = self._clock.wall_ns() - round(self._options.retention_s * 1e9)
        await self._store.purge(before_wall_ns, _AT_ONCE)

    async def _abandoned(self, record: TaskRecord) -> bool:
        if record.cancel_requested:
            await self._change(record, TaskEvent.CANCEL, None)
        elif record.generation >= self._options.max_claims:
            await self._change(record, TaskEvent.FAIL, TaskLost(claims=record.generation).to_dict())
        else:
            return await self._change(record, TaskEvent.RELEASE, None)
        return False

    async def _change(self, record: TaskRecord, event: TaskEvent, error: dict[str, object] | None) -> bool:
        after = apply(record, event, wall_ns=self._clock.wall_ns(), error=error)
        stored = await self._store.exchange(record, after)
        if stored is not None:
            publish_state(self._events, stored)
        return stored is not None
