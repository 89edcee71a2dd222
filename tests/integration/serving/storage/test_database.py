"""The database: upgrades, a bounded pool, connections that break, and no SQL made of text."""

from __future__ import annotations

import ast
import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, create_engine, insert, inspect, select, text

import plumbline.serving as serving
from plumbline.serving.identity.key_store import SqlKeyStore
from plumbline.serving.storage import database as database_module
from plumbline.serving.storage.database import Database, open_database, sqlite_url
from plumbline.serving.storage.migration import migrate, newest_revision, revision_of
from plumbline.serving.storage.refusals import StoreBusy, StoreNewer, StoreUnavailable, StoreUrlRefused
from plumbline.serving.storage.tables import METADATA, tasks
from plumbline.serving.tasks.record import encode_record
from plumbline.serving.tasks.sql_store import SqlTaskStore
from plumbline.serving.tasks.store import QueueLimits
from plumbline.testing.postgres import PostgresServer
from plumbline.testing.task_stores import A, queued_record


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await test()

    asyncio.run(bounded())


def differences(connection: Connection) -> list[object]:
    return list(compare_metadata(MigrationContext.configure(connection), METADATA))


async def write(database: Database, *statements: str) -> None:
    async with database.write() as connection:
        for statement in statements:
            await connection.execute(text(statement))


async def verify_current(database: Database) -> None:
    async with database.read() as connection:
        assert await connection.run_sync(revision_of) == newest_revision()
        assert await connection.run_sync(differences) == []


def test_an_empty_file_becomes_current_and_stays_so_when_opened_again(tmp_path: Path) -> None:
    """The upgrade from nothing; the tables are those that the code names."""

    async def test() -> None:
        for _ in range(2):
            database = await open_database(sqlite_url(tmp_path / "x.db"))
            await verify_current(database)
            await database.close()

    run(test)


def test_a_file_of_an_earlier_revision_is_upgraded_and_keeps_its_tasks(tmp_path: Path) -> None:
    """From the first revision, written as its version wrote it."""
    url = sqlite_url(tmp_path / "x.db")
    record = queued_record("old", 1)
    engine = create_engine(url)
    with engine.begin() as connection:
        migrate(connection, "0001")
        assert "api_keys" not in inspect(connection).get_table_names()
        row = {
            "tenant": "a", "id": "old", "sequence": 1, "state": "queued", "priority": 5, "revision": 0,
            "owner": "", "generation": 0, "detail": encode_record(record),
        }  # fmt: skip
        connection.execute(insert(tasks).values(row))
    engine.dispose()

    async def test() -> None:
        database = await open_database(url)
        await verify_current(database)
        assert await SqlTaskStore(database).find(A, "old") == record
        assert await SqlKeyStore(database).epoch() == 0
        await database.close()

    run(test)


def test_a_file_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    """Going back is refused."""
    url = sqlite_url(tmp_path / "x.db")

    async def test() -> None:
        await (await open_database(url)).close()
        engine = create_engine(url)
        with engine.begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        with pytest.raises(StoreNewer, match="9999"):
            await open_database(url)
        with engine.connect() as connection:
            assert revision_of(connection) == "9999"
        engine.dispose()

    run(test)


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_gateways_that_start_at_once_upgrade_once(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The lock: four openers, one upgrade, no error."""

    async def test() -> None:
        url = sqlite_url(tmp_path / "x.db")
        if kind == "postgres":
            url = request.getfixturevalue("postgres_server").url
        databases = await asyncio.gather(*[open_database(url) for _ in range(4)])
        await verify_current(databases[0])
        for database in databases:
            await database.close()

    run(test)


def test_definitions_of_tables_are_undone_with_their_transaction(tmp_path: Path) -> None:
    """All steps of an upgrade or none."""

    async def test() -> None:
        database = await open_database(sqlite_url(tmp_path / "y.db"))
        with pytest.raises(StoreUnavailable):
            await write(database, "CREATE TABLE halfway (x INTEGER)", "SELECT nothing FROM nowhere")
        async with database.read() as connection:
            names = await connection.run_sync(lambda c: inspect(c).get_table_names())
        assert "halfway" not in names
        await database.close()

    run(test)


@pytest.mark.parametrize(
    "url", ["mysql://x/y", "", "nonsense", "sqlite://", "sqlite:///:memory:", "http://127.0.0.1/"]
)
def test_another_kind_of_url_is_refused(url: str) -> None:
    async def test() -> None:
        with pytest.raises(StoreUrlRefused):
            await open_database(url)

    run(test)


def test_a_server_that_is_not_there_is_a_transient_failure_without_the_password(tmp_path: Path) -> None:
    async def test() -> None:
        with pytest.raises(StoreUnavailable) as caught:
            await open_database(f"postgresql://u:hunter2@/postgres?host={tmp_path}")
        assert "hunter2" not in str(caught.value.to_dict())
        assert str(tmp_path) not in str(caught.value.to_dict())

    run(test)


def test_the_pool_opens_no_more_connections_than_allowed_and_refuses_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L4-61: bound respected; a connection that comes back is given to the next."""
    monkeypatch.setattr(database_module, "POOL_WAIT_S", 0.1)

    async def test() -> None:
        database = await open_database(sqlite_url(tmp_path / "x.db"), connections=2)
        held = [database.read(), database.read()]
        for transaction in held:
            await transaction.__aenter__()
        with pytest.raises(StoreBusy, match="all 2 connections"):
            async with database.read():
                pass
        for transaction in held:
            await transaction.__aexit__(None, None, None)
        async with database.read() as connection:
            assert (await connection.execute(select(tasks))).all() == []
        await database.close()

    run(test)


def test_connections_that_broke_are_replaced(postgres_server: PostgresServer) -> None:
    """L4-61: the server is killed and comes back; the next use of the pool works, and nothing is lost."""

    async def test() -> None:
        database = await open_database(postgres_server.url, connections=3)
        store = SqlTaskStore(database)
        await asyncio.gather(*[store.depth() for _ in range(3)])
        await store.insert(queued_record("kept", 1), "{}", QueueLimits())
        await asyncio.to_thread(postgres_server.restart)
        assert await store.find(A, "kept") is not None
        assert len(await asyncio.gather(*[store.depth() for _ in range(6)])) == 6
        await database.close()

    run(test)


def test_a_transaction_with_an_error_changes_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        database = await open_database(sqlite_url(tmp_path / "x.db"))
        store = SqlTaskStore(database)
        await store.insert(queued_record("x", 1), "{}", QueueLimits())
        with pytest.raises(StoreUnavailable):
            await write(database, "DELETE FROM tasks", "INSERT INTO tasks (id) VALUES ('y')")
        assert await store.depth() == 1
        await database.close()

    run(test)


def test_no_statement_is_made_of_text() -> None:
    """X-57: in `serving`, no `text()`, and nothing formatted is executed, but the fixed pragmas."""
    folder = Path(next(iter(serving.__path__)))
    found: list[str] = []
    modules = [path for path in folder.rglob("*.py") if "sqlalchemy" in path.read_text(encoding="utf-8")]
    assert len(modules) >= 5
    for path in modules:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and _is_textual(node):
                found.append(f"{path.relative_to(folder)}: {ast.unparse(node)}")
    assert sorted(found) == [
        "storage/database.py: connection.exec_driver_sql('BEGIN IMMEDIATE' if write else 'BEGIN')",
        "storage/database.py: cursor.execute(f'PRAGMA {pragma}')",
    ]


def _is_textual(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name in {"text", "exec_driver_sql", "literal_column", "executescript"}:
        return True
    first = call.args[0] if call.args else None
    return name in {"execute", "executemany", "scalar", "scalars"} and isinstance(
        first, ast.Constant | ast.JoinedStr | ast.BinOp
    )
