"""Memory, SQLite and Postgres pass one suite (L4-42, L4-43, L4-74, X-57)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import delete

from plumbline.serving.storage.database import open_database, sqlite_url
from plumbline.serving.storage.tables import task_payloads, tasks
from plumbline.serving.tasks.memory_store import MemoryTaskStore
from plumbline.serving.tasks.sql_store import SqlTaskStore
from plumbline.serving.tasks.store import TaskStore
from plumbline.serving.tasks.watched_store import WatchedTaskStore
from plumbline.testing.postgres import PostgresServer
from plumbline.testing.task_stores import TaskStoreConformance


class TestMemoryTaskStore(TaskStoreConformance):
    @asynccontextmanager
    async def open_store(self) -> AsyncIterator[TaskStore]:
        yield MemoryTaskStore()


class TestWatchedTaskStore(TaskStoreConformance):
    @asynccontextmanager
    async def open_store(self) -> AsyncIterator[TaskStore]:
        store = WatchedTaskStore(MemoryTaskStore())
        yield store
        assert store.trouble() == "", "a refusal is no failure of the store"


class TestSqliteTaskStore(TaskStoreConformance):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.url = sqlite_url(tmp_path / "tasks.db")

    @asynccontextmanager
    async def open_store(self) -> AsyncIterator[TaskStore]:
        database = await open_database(self.url)
        try:
            yield SqlTaskStore(database)
        finally:
            await database.close()


class TestPostgresTaskStore(TaskStoreConformance):
    @pytest.fixture(autouse=True)
    def _server(self, postgres_server: PostgresServer) -> None:
        self.url = postgres_server.url

    @asynccontextmanager
    async def open_store(self) -> AsyncIterator[TaskStore]:
        database = await open_database(self.url)
        try:
            async with database.write() as connection:
                await connection.execute(delete(task_payloads))
                await connection.execute(delete(tasks))
            yield SqlTaskStore(database)
        finally:
            await database.close()
