"""Trouble of the store of tasks is seen, by what it is, until it is over (L4-31, L4-61, X-33).

The faults are real: a file that may not grow, a lock that another connection holds, a server that is gone.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from sqlalchemy import event

from plumbline.contracts.requests import TenantId
from plumbline.serving.storage import database as database_module
from plumbline.serving.storage.database import open_database, sqlite_url
from plumbline.serving.storage.refusals import StoreBusy, StoreUnavailable
from plumbline.serving.tasks.sql_store import SqlTaskStore
from plumbline.serving.tasks.store import QueueLimits
from plumbline.serving.tasks.watched_store import WatchedTaskStore
from plumbline.testing.postgres import PostgresServer
from plumbline.testing.task_stores import queued_record

A = TenantId("a")


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await test()

    asyncio.run(bounded())


def test_a_store_without_room_reads_on_and_says_that_it_accepts_nothing(tmp_path: Path) -> None:
    """SQLite is told that its file may have no more pages: it answers as on a full disk."""

    async def test() -> None:
        database = await open_database(sqlite_url(tmp_path / "x.db"), connections=1)
        store = WatchedTaskStore(SqlTaskStore(database))
        await store.insert(queued_record("kept", 1), "{}", QueueLimits())
        async with database.read() as connection:
            pages = (await connection.exec_driver_sql("PRAGMA page_count")).scalar_one()
            await connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StoreUnavailable, match="SQLITE_FULL"):
            await store.insert(queued_record("large", 2), "x" * 1_000_000, QueueLimits())
        assert await store.find(A, "kept") is not None
        assert await store.find(A, "large") is None, "nothing of it was kept"
        assert store.trouble() == "accepting: SQLITE_FULL"
        async with database.read() as connection:
            await connection.exec_driver_sql("PRAGMA max_page_count = 1000000")
        await store.insert(queued_record("large", 2), "x" * 1_000_000, QueueLimits())
        assert store.trouble() == ""
        await database.close()

    run(test)


@pytest.mark.parametrize("replaced", [False, True])
def test_a_store_whose_file_was_taken_away_accepts_nothing(tmp_path: Path, replaced: bool) -> None:
    """X-57: after an acceptance a task is where a restart finds it."""

    async def test() -> None:
        file = tmp_path / "x.db"
        database = await open_database(sqlite_url(file), connections=1)
        store = WatchedTaskStore(SqlTaskStore(database))
        await store.insert(queued_record("kept", 1), "{}", QueueLimits())
        file.rename(tmp_path / "taken")
        if replaced:
            file.write_bytes(b"")
        with pytest.raises(StoreUnavailable, match="removed or replaced"):
            await store.insert(queued_record("lost", 2), "{}", QueueLimits())
        assert await store.find(A, "lost") is None, "nothing of it was kept"
        assert "removed or replaced" in store.trouble()
        (tmp_path / "taken").replace(file)
        await store.insert(queued_record("later", 3), "{}", QueueLimits())
        assert store.trouble() == ""
        await database.close()

    run(test)


def test_a_store_that_another_process_locked_says_so_until_it_lets_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "LOCK_WAIT_S", 0.05)

    async def test() -> None:
        database = await open_database(sqlite_url(tmp_path / "x.db"))
        store = WatchedTaskStore(SqlTaskStore(database))
        other = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusy):
            await store.insert(queued_record("x", 1), "{}", QueueLimits())
        assert store.trouble() == "accepting: it is locked, or all connections are in use"
        assert await store.depth() == 0, "readers do not wait for a writer"
        other.execute("ROLLBACK")
        other.close()
        await store.insert(queued_record("x", 1), "{}", QueueLimits())
        assert store.trouble() == ""
        await database.close()

    run(test)


def test_a_database_server_that_went_away_says_so_until_it_is_back(postgres_server: PostgresServer) -> None:
    """Its connections break and no new one is given (a name that no server answers to)."""

    async def test() -> None:
        database = await open_database(postgres_server.url, connections=1)
        store = WatchedTaskStore(SqlTaskStore(database))
        before = await store.depth()

        def refuse(*_: object) -> None:
            raise ConnectionRefusedError("nobody answers there")

        await asyncio.to_thread(postgres_server.restart)
        event.listen(database._engine.sync_engine, "do_connect", refuse)
        with pytest.raises(StoreUnavailable):
            await store.depth()
        assert store.trouble().startswith("reading: ")
        assert postgres_server.url not in store.trouble()
        event.remove(database._engine.sync_engine, "do_connect", refuse)
        assert await store.depth() == before
        assert store.trouble() == ""
        await database.close()

    run(test)
