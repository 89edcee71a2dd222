"""`Database`: a bounded pool of connections, read and write transactions, and typed failures (L4-61)."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InvalidRequestError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from plumbline.serving.storage.migration import migrate
from plumbline.serving.storage.refusals import StoreBusy, StoreUnavailable, StoreUrlRefused

__all__ = ["Database", "open_database", "sqlite_url"]

DEFAULT_CONNECTIONS = 8
POOL_WAIT_S = 10.0
LOCK_WAIT_S = 10.0
CONNECT_WAIT_S = 5

_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "postgresql": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",
}
_BUSY = re.compile("database is locked|database table is locked")


class Database:
    """Owns the pool. Open it with `open_database`, close it with `close`.

    At most `connections` are open at any time; who finds none free waits `POOL_WAIT_S` and is refused by
    name. A connection that broke is noticed before its next use (`pre_ping`) and replaced. A local file that
    was removed or replaced takes no change any more: it would end with the connections that hold it.
    """

    def __init__(self, engine: AsyncEngine, connections: int, file: Path | None = None) -> None:
        self._engine, self._file = engine, file
        self._identity = None if file is None else _identity(file)
        self.connections = connections

    @property
    def is_sqlite(self) -> bool:
        """Whether the store is a local file."""
        return self._engine.dialect.name == "sqlite"

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that only reads.

        Raises:
            StoreUnavailable, StoreBusy: see there.
        """
        async with self._transaction(write=False) as connection:
            yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that changes something: committed at the end, or undone by an exception.

        Raises:
            StoreUnavailable, StoreBusy: see there.
        """
        async with self._transaction(write=True) as connection:
            yield connection

    async def close(self) -> None:
        """Close every connection."""
        await self._engine.dispose()

    @asynccontextmanager
    async def _transaction(self, *, write: bool) -> AsyncIterator[AsyncConnection]:
        try:
            async with self._engine.connect() as connection:
                await connection.execution_options(plumbline_write=write)
                async with connection.begin():
                    yield connection
                    if write:
                        self._verify_file()
        except PoolTimeout as error:
            raise StoreBusy(connections=self.connections) from error
        except DBAPIError as error:
            raise self._typed(error) from error
        except (OSError, InvalidRequestError) as error:
            raise StoreUnavailable(reason=type(error).__name__) from error

    def _verify_file(self) -> None:
        """Before the commit: what is stored can be found again."""
        if self._file is not None and _identity(self._file) != self._identity:
            raise StoreUnavailable(reason="its file was removed or replaced; the server has to be restarted")

    def _typed(self, error: DBAPIError) -> StoreBusy | StoreUnavailable:
        if _BUSY.search(str(error.orig)):
            return StoreBusy(connections=self.connections)
        return StoreUnavailable(reason=_reason(error.orig))


def _identity(file: Path) -> tuple[int, int] | None:
    try:
        facts = file.stat()
    except OSError:
        return None
    return facts.st_dev, facts.st_ino


def _reason(cause: object) -> str:
    """The name of what went wrong, which has no path in it: such as `SQLITE_FULL`."""
    name = getattr(cause, "sqlite_errorname", None)
    return name if isinstance(name, str) else type(cause).__name__


def sqlite_url(path: Path) -> str:
    """The URL of a local file."""
    return URL.create("sqlite", database=str(path)).render_as_string(hide_password=False)


async def open_database(url: str, *, connections: int = DEFAULT_CONNECTIONS) -> Database:
    """Connect and bring the tables to the newest revision, under a lock that other gateways wait for.

    Args:
        url: `sqlite:///FILE` or `postgresql://USER@HOST/NAME`.
        connections: most connections open at once.

    Raises:
        StoreUrlRefused: another kind of URL.
        StoreNewer: the tables are newer than this version.
        StoreUnavailable: nobody answers there.
    """
    verified = _verified(url)
    file = Path(verified.database or "") if verified.get_backend_name() == "sqlite" else None
    if file is not None:
        _create_private(file)
    engine = _engine(verified, connections)
    database = Database(engine, connections, file)
    try:
        async with database.write() as connection:
            await connection.run_sync(migrate)
    except BaseException:
        await database.close()
        raise
    return database


def _verified(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise StoreUrlRefused(kind=url.split(":", maxsplit=1)[0][:20]) from error
    kind = parsed.get_backend_name()
    if kind not in _DRIVERS or (kind == "sqlite" and parsed.database in {None, "", ":memory:"}):
        raise StoreUrlRefused(kind=kind)
    return parsed.set(drivername=_DRIVERS[kind])


def _create_private(path: Path) -> None:
    """Payloads of tenants are in it: a new file is its owner's alone; SQLite gives its logs the same mode."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise StoreUnavailable(reason=f"the file cannot be opened: {error.strerror}") from error


def _engine(url: URL, connections: int) -> AsyncEngine:
    try:
        engine = create_async_engine(
            url,
            pool_size=connections,
            max_overflow=0,
            pool_timeout=POOL_WAIT_S,
            pool_pre_ping=True,
            hide_parameters=True,
            connect_args=_connect_arguments(url),
        )
    except SQLAlchemyError as error:
        raise StoreUrlRefused(kind=url.get_backend_name()) from error
    if url.get_backend_name() == "sqlite":
        event.listen(engine.sync_engine, "connect", _prepare_sqlite)
        event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


def _connect_arguments(url: URL) -> dict[str, Any]:
    if url.get_backend_name() == "sqlite":
        return {"timeout": LOCK_WAIT_S}
    return {"connect_timeout": CONNECT_WAIT_S, "application_name": "plumbline"}


def _prepare_sqlite(connection: Any, _record: object) -> None:
    """Readers do not wait for a writer; a commit is on the disk when it returns."""
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    """A writer takes the lock at the beginning: two that read first would refuse each other at the end."""
    write = connection.get_execution_options().get("plumbline_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
