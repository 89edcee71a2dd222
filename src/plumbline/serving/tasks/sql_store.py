"""Tasks in the database. Every statement is built by SQLAlchemy from columns and bound values (X-57)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Select, delete, func, insert, select, tuple_, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from plumbline.contracts.requests import TenantId
from plumbline.serving.storage.database import Database
from plumbline.serving.storage.tables import task_payloads, tasks
from plumbline.serving.tasks.memory_store import verify_room
from plumbline.serving.tasks.record import TaskRecord, TaskState, decode_record, encode_record
from plumbline.serving.tasks.store import BodyKind, Cursor, Inserted, QueueLimits

__all__ = ["SqlTaskStore"]


class SqlTaskStore:
    """`TaskStore` over a database that the caller opens and closes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def insert(self, record: TaskRecord, request: str, limits: QueueLimits) -> Inserted:
        """See `TaskStore.insert`."""
        try:
            return await self._insert(record, request, limits)
        except _IdTaken:
            present = await self.find(record.tenant, record.id)
            if present is None:  # ended and was forgotten in between: the id is free again
                return await self.insert(record, request, limits)
            return Inserted(record=present, created=False)

    async def exchange(
        self, before: TaskRecord, after: TaskRecord, *, result: str | None = None
    ) -> TaskRecord | None:
        """See `TaskStore.exchange`."""
        stored = dataclasses.replace(after, revision=before.revision + 1)
        where = (
            tasks.c.tenant == before.tenant,
            tasks.c.id == before.id,
            tasks.c.revision == before.revision,
        )
        async with self._database.write() as connection:
            changed = await connection.execute(update(tasks).where(*where).values(_columns(stored)))
            if changed.rowcount != 1:
                return None
            if result is not None:
                await _put_body(connection, stored, BodyKind.RESULT, result)
        return stored

    async def find(self, tenant: TenantId, task: str) -> TaskRecord | None:
        """See `TaskStore.find`."""
        found = await self._records(_everything().where(tasks.c.tenant == tenant, tasks.c.id == task))
        return found[0] if found else None

    async def body(self, tenant: TenantId, task: str, kind: BodyKind) -> str | None:
        """See `TaskStore.body`."""
        columns = task_payloads.c
        query = select(columns.body).where(
            columns.tenant == tenant, columns.task == task, columns.kind == kind.value
        )
        async with self._database.read() as connection:
            body: str | None = (await connection.execute(query)).scalar_one_or_none()
        return body

    async def page(
        self, tenant: TenantId, *, state: TaskState | None, limit: int, after: Cursor | None
    ) -> Sequence[TaskRecord]:
        """See `TaskStore.page`."""
        query = _everything().where(tasks.c.tenant == tenant)
        if state is not None:
            query = query.where(tasks.c.state == state.value)
        if after is not None:
            query = query.where(tuple_(tasks.c.sequence, tasks.c.id) < after)
        return await self._records(query.order_by(tasks.c.sequence.desc(), tasks.c.id.desc()).limit(limit))

    async def heads(self, limit: int) -> Sequence[TaskRecord]:
        """See `TaskStore.heads`."""
        order = (tasks.c.priority.desc(), tasks.c.sequence, tasks.c.id)
        return await self._records(_in_state(TaskState.QUEUED).order_by(*order).limit(limit))

    async def running(self, limit: int) -> Sequence[TaskRecord]:
        """See `TaskStore.running`."""
        return await self._records(_in_state(TaskState.RUNNING).limit(limit))

    async def overdue(self, wall_ns: int, limit: int) -> Sequence[TaskRecord]:
        """See `TaskStore.overdue`."""
        query = _in_state(TaskState.QUEUED).where(tasks.c.deadline_wall_ns <= wall_ns)
        return await self._records(query.limit(limit))

    async def depth(self) -> int:
        """See `TaskStore.depth`."""
        async with self._database.read() as connection:
            return await _count(connection)

    async def counts(self) -> Mapping[TaskState, int]:
        """See `TaskStore.counts`."""
        query = select(tasks.c.state, func.count()).group_by(tasks.c.state)
        async with self._database.read() as connection:
            found = {state: int(count) for state, count in (await connection.execute(query)).all()}
        return {state: found.get(state.value, 0) for state in TaskState}

    async def purge(self, finished_before_wall_ns: int, limit: int) -> int:
        """See `TaskStore.purge`."""
        ended = tasks.c.finished_wall_ns < finished_before_wall_ns
        query = select(tasks.c.tenant, tasks.c.id).where(ended).limit(limit)
        async with self._database.write() as connection:
            keys = [(tenant, task) for tenant, task in (await connection.execute(query)).all()]
            if keys:
                bodies = tuple_(task_payloads.c.tenant, task_payloads.c.task)
                await connection.execute(delete(task_payloads).where(bodies.in_(keys)))
                await connection.execute(delete(tasks).where(tuple_(tasks.c.tenant, tasks.c.id).in_(keys)))
        return len(keys)

    async def _insert(self, record: TaskRecord, request: str, limits: QueueLimits) -> Inserted:
        taken = select(tasks.c.id).where(tasks.c.tenant == record.tenant, tasks.c.id == record.id)
        async with self._database.write() as connection:
            if (await connection.execute(taken)).first() is not None:
                raise _IdTaken
            verify_room(await _count(connection), await _count(connection, record.tenant), limits)
            try:
                await connection.execute(insert(tasks).values(_columns(record)))
            except IntegrityError as error:  # another gateway took the id since the line above (Postgres)
                raise _IdTaken from error
            await _put_body(connection, record, BodyKind.REQUEST, request)
        return Inserted(record=record, created=True)

    async def _records(self, query: Select[str]) -> list[TaskRecord]:
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).scalars().all()
        return [decode_record(row) for row in rows]


class _IdTaken(Exception):
    """Leaves the transaction, which is undone."""


def _everything() -> Select[str]:
    return select(tasks.c.detail)


def _in_state(state: TaskState) -> Select[str]:
    return _everything().where(tasks.c.state == state.value)


def _columns(record: TaskRecord) -> dict[str, Any]:
    return {
        "tenant": record.tenant,
        "id": record.id,
        "sequence": record.sequence,
        "state": record.state.value,
        "priority": record.priority,
        "revision": record.revision,
        "owner": record.owner,
        "generation": record.generation,
        "deadline_wall_ns": record.deadline_wall_ns,
        "finished_wall_ns": record.finished_wall_ns,
        "detail": encode_record(record),
    }


async def _count(connection: AsyncConnection, tenant: TenantId | None = None) -> int:
    query = select(func.count()).select_from(tasks).where(tasks.c.state == TaskState.QUEUED.value)
    if tenant is not None:
        query = query.where(tasks.c.tenant == tenant)
    return int((await connection.execute(query)).scalar_one())


async def _put_body(connection: AsyncConnection, record: TaskRecord, kind: BodyKind, body: str) -> None:
    row = {"tenant": record.tenant, "task": record.id, "kind": kind.value, "body": body}
    await connection.execute(insert(task_payloads).values(row))
