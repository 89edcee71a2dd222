"""One Postgres server for the stores of this folder, where one is installed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from plumbline.testing.postgres import PostgresServer, find_postgres, run_postgres


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    programs = find_postgres()
    if programs is None:
        pytest.skip("no Postgres server is installed")
    with run_postgres(programs) as server:
        yield server
