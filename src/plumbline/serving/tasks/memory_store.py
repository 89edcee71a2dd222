"""Tasks in this process, for library use and tests: the slow and plain twin of the SQL store."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from plumbline.contracts.requests import TenantId
from plumbline.serving.tasks.lifecycle import is_terminal
from plumbline.serving.tasks.record import TaskRecord, TaskState
from plumbline.serving.tasks.store import BodyKind, Cursor, Inserted, QueueLimits, TaskQueueFull

__all__ = ["MemoryTaskStore"]

Key = tuple[TenantId, str]


class MemoryTaskStore:
    """Owns two dictionaries. One event loop; nothing awaits in between, so every method is atomic."""

    def __init__(self) -> None:
        self._records: dict[Key, TaskRecord] = {}
        self._bodies: dict[tuple[TenantId, str, BodyKind], str] = {}

    async def insert(self, record: TaskRecord, request: str, limits: QueueLimits) -> Inserted:
        """See `TaskStore.insert`."""
        key = (record.tenant, record.id)
        if key in self._records:
            return Inserted(record=self._records[key], created=False)
        queued = self._select(lambda r: r.state is TaskState.QUEUED)
        verify_room(len(queued), sum(r.tenant == record.tenant for r in queued), limits)
        self._records[key] = record
        self._bodies[(*key, BodyKind.REQUEST)] = request
        return Inserted(record=record, created=True)

    async def exchange(
        self, before: TaskRecord, after: TaskRecord, *, result: str | None = None
    ) -> TaskRecord | None:
        """See `TaskStore.exchange`."""
        key = (before.tenant, before.id)
        present = self._records.get(key)
        if present is None or present.revision != before.revision:
            return None
        stored = dataclasses.replace(after, revision=before.revision + 1)
        self._records[key] = stored
        if result is not None:
            self._bodies[(*key, BodyKind.RESULT)] = result
        return stored

    async def find(self, tenant: TenantId, task: str) -> TaskRecord | None:
        """See `TaskStore.find`."""
        return self._records.get((tenant, task))

    async def body(self, tenant: TenantId, task: str, kind: BodyKind) -> str | None:
        """See `TaskStore.body`."""
        return self._bodies.get((tenant, task, kind))

    async def page(
        self, tenant: TenantId, *, state: TaskState | None, limit: int, after: Cursor | None
    ) -> Sequence[TaskRecord]:
        """See `TaskStore.page`."""
        mine = self._select(
            lambda r: (
                r.tenant == tenant
                and (state is None or r.state is state)
                and (after is None or (r.sequence, r.id) < after)
            )
        )
        return sorted(mine, key=lambda r: (r.sequence, r.id), reverse=True)[:limit]

    async def heads(self, limit: int) -> Sequence[TaskRecord]:
        """See `TaskStore.heads`."""
        queued = self._select(lambda r: r.state is TaskState.QUEUED)
        return sorted(queued, key=lambda r: (-r.priority, r.sequence, r.id))[:limit]

    async def running(self, limit: int) -> Sequence[TaskRecord]:
        """See `TaskStore.running`."""
        return self._select(lambda r: r.state is TaskState.RUNNING)[:limit]

    async def overdue(self, wall_ns: int, limit: int) -> Sequence[TaskRecord]:
        """See `TaskStore.overdue`."""
        return self._select(
            lambda r: (
                r.state is TaskState.QUEUED
                and r.deadline_wall_ns is not None
                and r.deadline_wall_ns <= wall_ns
            )
        )[:limit]

    async def depth(self) -> int:
        """See `TaskStore.depth`."""
        return len(self._select(lambda r: r.state is TaskState.QUEUED))

    async def counts(self) -> Mapping[TaskState, int]:
        """See `TaskStore.counts`."""
        found = Counter(record.state for record in self._records.values())
        return {state: found[state] for state in TaskState}

    async def purge(self, finished_before_wall_ns: int, limit: int) -> int:
        """See `TaskStore.purge`."""
        old = self._select(
            lambda r: is_terminal(r.state) and (r.finished_wall_ns or 0) < finished_before_wall_ns
        )[:limit]
        for record in old:
            del self._records[(record.tenant, record.id)]
            for kind in BodyKind:
                self._bodies.pop((record.tenant, record.id, kind), None)
        return len(old)

    def _select(self, wanted: Callable[[TaskRecord], bool]) -> list[TaskRecord]:
        return [record for record in self._records.values() if wanted(record)]


def verify_room(queued: int, queued_of_tenant: int, limits: QueueLimits) -> None:
    """Raises `TaskQueueFull` when one more would be too many."""
    for count, limit, whose in (
        (queued_of_tenant, limits.queued_of_tenant, "for this tenant"),
        (queued, limits.queued, "in all"),
    ):
        if count >= limit:
            raise TaskQueueFull(queued=count, limit=limit, whose=whose, retry_after_s=limits.retry_after_s)
