"""Bring the tables to the newest revision, forward only."""

from __future__ import annotations

from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from alembic.script.revision import ResolutionError
from alembic.util import CommandError
from sqlalchemy import BigInteger, Connection, bindparam, func, select

from plumbline.serving.storage.refusals import StoreNewer
from plumbline.serving.storage.tables import METADATA

__all__ = ["migrate", "newest_revision", "revision_of"]

_LOCK = 0x706C756D62  # any constant that no other program of the same database uses
_SCRIPTS = "plumbline.serving.storage:migrations"


def migrate(connection: Connection, target: str = "head") -> None:
    """Apply the missing steps in the transaction of `connection`: all of them or none.

    Whoever comes second waits for the first (SQLite: the write lock that the transaction holds; Postgres: an
    advisory lock until its end) and finds nothing left to do.

    Raises:
        StoreNewer: the tables have a revision that this version does not know.
    """
    if connection.dialect.name == "postgresql":
        key = bindparam("key", _LOCK, BigInteger)
        connection.execute(select(func.pg_advisory_xact_lock(key)))
    scripts = _scripts()
    _verify_known(connection, scripts)

    def steps(revision: object, _context: MigrationContext) -> object:
        return scripts._upgrade_revs(target, revision)  # type: ignore[arg-type]

    with EnvironmentContext(Config(), scripts, fn=steps) as environment:
        environment.configure(connection=connection, target_metadata=METADATA, transactional_ddl=True)
        environment.run_migrations()


def newest_revision() -> str:
    """The revision that this version makes."""
    return _scripts().get_current_head() or ""


def revision_of(connection: Connection) -> str | None:
    """The revision of the tables behind a connection; None for an empty database."""
    return MigrationContext.configure(connection).get_current_revision()


def _scripts() -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", _SCRIPTS)
    config.set_main_option("path_separator", "os")
    return ScriptDirectory.from_config(config)


def _verify_known(connection: Connection, scripts: ScriptDirectory) -> None:
    found = revision_of(connection)
    if found is None:
        return
    try:
        scripts.get_revision(found)
    except (CommandError, ResolutionError) as error:
        raise StoreNewer(found=found, known=newest_revision()) from error
