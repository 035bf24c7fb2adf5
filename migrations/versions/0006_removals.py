"""removals: people can be removed, with the record that it was done; sources state consent.

Revision ID: 0006
Revises: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

SOURCED = ("identities", "restoration_inputs")

# Events stay append-only but for those of a person who is being removed. Whoever rebuilds the tables
# `pairs` or `identities` on SQLite has to drop this trigger first, and to make it again afterwards.
OF_NOBODY_LEAVING = """NOT EXISTS (
    SELECT 1 FROM pairs JOIN identities ON identities.id = pairs.identity_id
    WHERE pairs.id = OLD.pair_id AND identities.leaving)"""
REFUSAL = "BEGIN SELECT RAISE(ABORT, 'events are append-only'); END"
POSTGRESQL_GUARD = f"""
CREATE OR REPLACE FUNCTION events_are_append_only() RETURNS trigger AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF NOT {OF_NOBODY_LEAVING} THEN RETURN OLD; END IF;
    END IF;
    RAISE EXCEPTION 'events are append-only';
END;
$$ LANGUAGE plpgsql;
"""
POSTGRESQL_GUARD_BEFORE = """
CREATE OR REPLACE FUNCTION events_are_append_only() RETURNS trigger AS $$
BEGIN RAISE EXCEPTION 'events are append-only'; END;
$$ LANGUAGE plpgsql;
"""


def upgrade() -> None:
    op.create_table(
        "removals",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("salt", sa.String(length=32), nullable=False),
        sa.Column("digest", sa.String(length=80), nullable=False),
        sa.Column("removed", sa.JSON(), nullable=False),
        sa.Column("files", sa.JSON(), nullable=False),
        sa.Column("tasks", sa.JSON(), nullable=False),
        sa.Column("begun_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("let_back_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_removals"),
    )
    op.add_column(
        "identities",
        sa.Column("leaving", sa.Boolean(), server_default=sa.false(), nullable=False),
    )
    for table in SOURCED:
        op.add_column(
            table,
            sa.Column("consent", sa.String(length=255), server_default="unknown", nullable=False),
        )
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP TRIGGER events_guard_delete")
        op.execute(
            "CREATE TRIGGER events_guard_delete BEFORE DELETE ON events "
            f"WHEN {OF_NOBODY_LEAVING} {REFUSAL}"
        )
    elif op.get_bind().dialect.name == "postgresql":
        op.execute(POSTGRESQL_GUARD)


def downgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP TRIGGER events_guard_delete")
        op.execute(f"CREATE TRIGGER events_guard_delete BEFORE DELETE ON events {REFUSAL}")
    elif op.get_bind().dialect.name == "postgresql":
        op.execute(POSTGRESQL_GUARD_BEFORE)
    for table in reversed(SOURCED):
        op.drop_column(table, "consent")
    op.drop_column("identities", "leaving")
    op.drop_table("removals")
