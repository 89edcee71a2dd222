"""Tasks and their bodies."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables of tasks."""
    op.create_table(
        "tasks",
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("priority", sa.SmallInteger, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("deadline_wall_ns", sa.BigInteger, nullable=True),
        sa.Column("finished_wall_ns", sa.BigInteger, nullable=True),
        sa.Column("detail", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "id", name="pk_tasks"),
    )
    op.create_index("ix_tasks_state_priority_sequence", "tasks", ["state", "priority", "sequence"])
    op.create_index("ix_tasks_tenant_sequence", "tasks", ["tenant", "sequence"])
    op.create_index("ix_tasks_finished_wall_ns", "tasks", ["finished_wall_ns"])
    op.create_table(
        "task_payloads",
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("task", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "task", "kind", name="pk_task_payloads"),
    )
