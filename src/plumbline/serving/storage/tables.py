"""The tables as they are at the newest revision. `migrations.versions` leads there; a test compares them."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, MetaData, SmallInteger, String, Table, Text

__all__ = ["METADATA", "api_keys", "identity_epoch", "task_payloads", "tasks"]

METADATA = MetaData(
    naming_convention={"ix": "ix_%(table_name)s_%(column_0_N_name)s", "pk": "pk_%(table_name)s"}
)

tasks = Table(
    "tasks",
    METADATA,
    Column("tenant", String(64), primary_key=True),
    Column("id", String(64), primary_key=True),
    Column("sequence", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("priority", SmallInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("owner", String(64), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("deadline_wall_ns", BigInteger, nullable=True),
    Column("finished_wall_ns", BigInteger, nullable=True),
    Column("detail", Text, nullable=False),
    Index("ix_tasks_state_priority_sequence", "state", "priority", "sequence"),
    Index("ix_tasks_tenant_sequence", "tenant", "sequence"),
    Index("ix_tasks_finished_wall_ns", "finished_wall_ns"),
)
"""One row a task. `revision` is the word that every change compares and sets; `detail` is JSON (the rest of
`TaskRecord`), so that no text of a client is ever part of a condition."""

task_payloads = Table(
    "task_payloads",
    METADATA,
    Column("tenant", String(64), primary_key=True),
    Column("task", String(64), primary_key=True),
    Column("kind", String(16), primary_key=True),
    Column("body", Text, nullable=False),
)
"""Bodies beside the rows, so that a list never reads them: `request` and `result`."""

api_keys = Table(
    "api_keys",
    METADATA,
    Column("id", String(32), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("name", Text, nullable=False),
    Column("roles", String(64), nullable=False),
    Column("rate", String(32), nullable=False),
    Column("secret_hash", Text, nullable=False),
    Column("created_wall_ns", BigInteger, nullable=False),
    Column("revoked_wall_ns", BigInteger, nullable=True),
    Index("ix_api_keys_tenant", "tenant"),
)
"""API keys. The secret is there as an argon2id hash only."""

identity_epoch = Table(
    "identity_epoch",
    METADATA,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    Column("value", BigInteger, nullable=False),
)
"""One row. Grows with every change of a key, so that each gateway notices within its bound."""
