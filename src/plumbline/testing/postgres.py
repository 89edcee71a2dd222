"""A Postgres server of one's own for tests: a fresh cluster in a folder, on a Unix socket, then gone."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["PostgresServer", "find_postgres", "run_postgres"]

_INSTALLED = Path("/usr/lib/postgresql")
_ACCOUNT = "postgres"


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresServer:
    """A running server. `restart` ends every connection and comes back."""

    url: str
    restart: Callable[[], None]


def find_postgres() -> Path | None:
    """The folder of the newest installed server's programs."""
    found = sorted(_INSTALLED.glob("*/bin/pg_ctl"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    program = shutil.which("pg_ctl")
    return Path(program).resolve().parent if program else None


@contextmanager
def run_postgres(programs: Path) -> Iterator[PostgresServer]:
    """Make a cluster, start it, stop it, remove it. As root it runs under the account of Debian's package,
    because the server refuses root.

    Args:
        programs: folder with `initdb` and `pg_ctl`.

    Raises:
        subprocess.CalledProcessError: the server does not start.
    """
    folder = Path(tempfile.mkdtemp(prefix="plumb-pg-"))
    user = _ACCOUNT if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
    if os.getuid() == 0:
        shutil.chown(folder, _ACCOUNT)
    data, log = folder / "data", folder / "log"
    settings = f"-c listen_addresses='' -c unix_socket_directories='{folder}' -c fsync=off"
    start: list[str | Path] = [programs / "pg_ctl", "-D", data, "-l", log, "-o", settings, "-w", "-t", "30"]
    try:
        _as(user, [programs / "initdb", "-D", data, "-A", "trust", "-U", user, "--no-sync"])
        _as(user, [*start, "start"])
        yield PostgresServer(
            url=f"postgresql://{user}@/postgres?host={folder}",
            restart=lambda: _as(user, [*start, "-m", "immediate", "restart"]),
        )
    finally:
        _as(user, [programs / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop"], check=False)
        shutil.rmtree(folder, ignore_errors=True)


def _as(user: str, command: list[str | Path], *, check: bool = True) -> None:
    words = [str(word) for word in command]
    if os.getuid() == 0:
        words = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", *words]
    subprocess.run(
        words,
        check=check,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=60,
    )
