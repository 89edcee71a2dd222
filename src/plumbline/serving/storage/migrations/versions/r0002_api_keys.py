"""API keys, and the counter that says that one changed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create the tables of keys, with the counter at 0."""
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("roles", sa.String(64), nullable=False),
        sa.Column("rate", sa.String(32), nullable=False),
        sa.Column("secret_hash", sa.Text, nullable=False),
        sa.Column("created_wall_ns", sa.BigInteger, nullable=False),
        sa.Column("revoked_wall_ns", sa.BigInteger, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
    )
    op.create_index("ix_api_keys_tenant", "api_keys", ["tenant"])
    epoch = op.create_table(
        "identity_epoch",
        sa.Column("id", sa.SmallInteger, nullable=False, autoincrement=False),
        sa.Column("value", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_identity_epoch"),
    )
    op.bulk_insert(epoch, [{"id": 1, "value": 0}])
