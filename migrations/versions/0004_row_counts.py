"""row counts: the status page and the counts cost the same however many pairs there are.

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# what the rows of each table are told apart by: label, conflicts, proposed version
COUNTED = {
    "identities": ("split", "''", "''"),
    "images": ("''", "''", "''"),
    "pair_states": ("status", "conflicts", "proposed_version"),
    "proposals": ("model_version", "''", "''"),
    "events": ("kind", "''", "''"),
}
CHANGES = {"INSERT": ((1, "new"),), "DELETE": ((-1, "old"),), "UPDATE": ((-1, "old"), (1, "new"))}
COLUMNS = "counted, label, conflicts, proposed_version, number"
TOO_MANY = 1000

# Counters that were changed in place would make PostgreSQL's writers wait for each other. So each
# statement adds rows of its own, and who finds too many of them sums them up, unless somebody else is.
POSTGRESQL_FOLD = f"""
CREATE FUNCTION fold_row_counts() RETURNS void AS $$
BEGIN
    IF (SELECT max(id) - min(id) FROM row_counts) > {TOO_MANY}
            AND pg_try_advisory_xact_lock('row_counts'::regclass::oid::bigint) THEN
        WITH folded AS (DELETE FROM row_counts RETURNING *)
        INSERT INTO row_counts ({COLUMNS})
        SELECT counted, label, conflicts, proposed_version, sum(number) FROM folded
        GROUP BY counted, label, conflicts, proposed_version HAVING sum(number) <> 0;
    END IF;
END;
$$ LANGUAGE plpgsql;
"""


def upgrade() -> None:
    op.create_table(
        "row_counts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("counted", sa.String(length=64), nullable=False),
        sa.Column("label", sa.String(length=64), nullable=False),
        sa.Column("conflicts", sa.String(length=128), nullable=False),
        sa.Column("proposed_version", sa.String(length=64), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_row_counts"),
    )
    op.create_index(
        "ix_row_counts_counted",
        "row_counts",
        ["counted", "label", "conflicts", "proposed_version"],
        unique=False,
    )
    dialect = op.get_bind().dialect.name
    if dialect == "postgresql":
        op.execute(POSTGRESQL_FOLD)
    for table, labels in COUNTED.items():
        op.execute(
            f"INSERT INTO row_counts ({COLUMNS}) "
            f"SELECT '{table}', label, conflicts, version, count(*) FROM (SELECT {labels[0]} AS label, "
            f"{labels[1]} AS conflicts, {labels[2]} AS version FROM {table}) AS labelled "
            "GROUP BY label, conflicts, version"
        )
        for action, changes in CHANGES.items():
            if dialect == "postgresql":
                _count_statements(table, labels, action, changes)
            else:
                _count_rows(table, labels, action, changes)


def downgrade() -> None:
    postgresql = op.get_bind().dialect.name == "postgresql"
    for table in COUNTED:
        for action in CHANGES:
            name = f"{table}_count_{action.lower()}"
            op.execute(f"DROP TRIGGER {name} ON {table}" if postgresql else f"DROP TRIGGER {name}")
            if postgresql:
                op.execute(f"DROP FUNCTION {name}")
    if postgresql:
        op.execute("DROP FUNCTION fold_row_counts")
    op.drop_index("ix_row_counts_counted", "row_counts")
    op.drop_table("row_counts")


def _count_rows(
    table: str, labels: tuple[str, ...], action: str, changes: tuple[tuple[int, str], ...]
) -> None:
    """SQLite has one writer at a time, and so one row for each count."""
    steps = []
    for step, row in changes:
        values = [f"'{table}'", *(one if one == "''" else f"{row}.{one}" for one in labels)]
        same = " AND ".join(
            f"{column} = {value}"
            for column, value in zip(COLUMNS.split(", "), values, strict=False)
        )
        steps.append(
            f"INSERT INTO row_counts ({COLUMNS}) SELECT {', '.join(values)}, 0 "
            f"WHERE NOT EXISTS (SELECT 1 FROM row_counts WHERE {same});"
            f"UPDATE row_counts SET number = number + ({step}) WHERE {same};"
        )
    op.execute(
        f"CREATE TRIGGER {table}_count_{action.lower()} AFTER {action} ON {table} "
        f"BEGIN {' '.join(steps)} END"
    )


def _count_statements(
    table: str, labels: tuple[str, ...], action: str, changes: tuple[tuple[int, str], ...]
) -> None:
    """PostgreSQL counts a statement's rows together."""
    name = f"{table}_count_{action.lower()}"
    rows = " UNION ALL ".join(
        f"SELECT {labels[0]} AS label, {labels[1]} AS conflicts, {labels[2]} AS version, "
        f"{step} AS step FROM {row}_rows"
        for step, row in changes
    )
    seen = " ".join(f"{row.upper()} TABLE AS {row}_rows" for _, row in changes)
    op.execute(
        f"CREATE FUNCTION {name}() RETURNS trigger AS $$ BEGIN "
        f"INSERT INTO row_counts ({COLUMNS}) "
        f"SELECT '{table}', label, conflicts, version, sum(step) FROM ({rows}) AS changed "
        "GROUP BY label, conflicts, version HAVING sum(step) <> 0; "
        "PERFORM fold_row_counts(); RETURN NULL; END; $$ LANGUAGE plpgsql"
    )
    op.execute(
        f"CREATE TRIGGER {name} AFTER {action} ON {table} REFERENCING {seen} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION {name}()"
    )
