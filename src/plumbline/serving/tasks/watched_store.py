"""`WatchedTaskStore`: a store of tasks, and what went wrong in it last (requirement L4-31)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from plumbline.contracts.requests import TenantId
from plumbline.serving.storage.refusals import StoreBusy, StoreUnavailable
from plumbline.serving.tasks.lifecycle import is_terminal
from plumbline.serving.tasks.record import TaskRecord, TaskState
from plumbline.serving.tasks.store import BodyKind, Cursor, Inserted, QueueLimits, TaskStore

__all__ = ["WatchedTaskStore"]

T = TypeVar("T")


class WatchedTaskStore:
    """`TaskStore` around another one. Owns the last failure of each kind of work, until it works again.

    Reading, accepting and changing are told apart: a full disk is read from well.

    Args:
        store: that does the work.
        ended: told of every task whose end was stored through here.
    """

    def __init__(self, store: TaskStore, ended: Callable[[TaskRecord], None] = lambda record: None) -> None:
        self._store, self._ended = store, ended
        self._failures: dict[str, str] = {}

    def trouble(self) -> str:
        """What went wrong when it was tried last; empty when everything that was tried last worked."""
        return "; ".join(f"{doing}: {reason}" for doing, reason in sorted(self._failures.items()))

    async def insert(self, record: TaskRecord, request: str, limits: QueueLimits) -> Inserted:
        """See `TaskStore.insert`."""
        return await self._watch("accepting", self._store.insert(record, request, limits))

    async def exchange(
        self, before: TaskRecord, after: TaskRecord, *, result: str | None = None
    ) -> TaskRecord | None:
        """See `TaskStore.exchange`."""
        stored = await self._watch("changing", self._store.exchange(before, after, result=result))
        if stored is not None and is_terminal(stored.state):
            self._ended(stored)
        return stored

    async def find(self, tenant: TenantId, task: str) -> TaskRecord | None:
        """See `TaskStore.find`."""
        return await self._watch("reading", self._store.find(tenant, task))

    async def body(self, tenant: TenantId, task: str, kind: BodyKind) -> str | None:
        """See `TaskStore.body`."""
        return await self._watch("reading", self._store.body(tenant, task, kind))

    async def page(
        self, tenant: TenantId, *, state: TaskState | None, limit: int, after: Cursor | None
    ) -> Sequence[TaskRecord]:
        """See `TaskStore.page`."""
        page = self._store.page(tenant, state=state, limit=limit, after=after)
        return await self._watch("reading", page)

    async def heads(self, limit: int) -> Sequence[TaskRecord]:
        """See `TaskStore.heads`."""
        return await self._watch("reading", self._store.heads(limit))

    async def running(self, limit: int) -> Sequence[TaskRecord]:
        """See `TaskStore.running`."""
        return await self._watch("reading", self._store.running(limit))

    async def overdue(self, wall_ns: int, limit: int) -> Sequence[TaskRecord]:
        """See `TaskStore.overdue`."""
        return await self._watch("reading", self._store.overdue(wall_ns, limit))

    async def depth(self) -> int:
        """See `TaskStore.depth`."""
        return await self._watch("reading", self._store.depth())

    async def counts(self) -> Mapping[TaskState, int]:
        """See `TaskStore.counts`."""
        return await self._watch("reading", self._store.counts())

    async def purge(self, finished_before_wall_ns: int, limit: int) -> int:
        """See `TaskStore.purge`."""
        return await self._watch("forgetting", self._store.purge(finished_before_wall_ns, limit))

    async def _watch(self, doing: str, work: Awaitable[T]) -> T:
        try:
            done = await work
        except StoreUnavailable as error:
            self._failures[doing] = error.reason
            raise
        except StoreBusy:
            self._failures[doing] = "it is locked, or all connections are in use"
            raise
        self._failures.pop(doing, None)
        return done
