"""quality: what proposals are ordered by, gold answers, and how two answers to a pair compare.

Revision ID: 0005
Revises: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

PIXELS = ("both_keep", "first_only", "second_only", "neither_keeps")


def upgrade() -> None:
    op.add_column("proposals", sa.Column("entropy", sa.Double(), nullable=True))
    op.add_column("proposals", sa.Column("flip_disagreement", sa.Double(), nullable=True))
    op.add_column("annotation_tasks", sa.Column("place", sa.Double(), nullable=True))
    op.add_column(
        "annotation_tasks",
        sa.Column("overlap", sa.Integer(), server_default="1", nullable=False),
    )
    op.create_table(
        "gold_answers",
        sa.Column("pair_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("event_id", sa.Integer(), nullable=False),
        sa.Column("set_by", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        *_of_a_pair("gold_answers", "event_id"),
        sa.PrimaryKeyConstraint("pair_id", name="pk_gold_answers"),
    )
    op.create_table(
        "comparisons",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("pair_id", sa.Integer(), nullable=False),
        sa.Column("event_id", sa.Integer(), nullable=False),
        sa.Column("other_event_id", sa.Integer(), nullable=False),
        sa.Column("gold", sa.Boolean(), nullable=False),
        sa.Column("agrees", sa.Boolean(), nullable=False),
        *(sa.Column(name, sa.Integer(), nullable=True) for name in PIXELS),
        sa.Column("boundary_f", sa.Double(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        *_of_a_pair("comparisons", "event_id", "other_event_id"),
        sa.PrimaryKeyConstraint("id", name="pk_comparisons"),
        sa.UniqueConstraint(
            "event_id", "other_event_id", name="uq_comparisons_event_id_other_event_id"
        ),
    )
    op.create_index("ix_comparisons_pair_id", "comparisons", ["pair_id"], unique=False)
    op.create_index(
        "ix_comparisons_other_event_id", "comparisons", ["other_event_id"], unique=False
    )
    op.create_index("ix_gold_answers_event_id", "gold_answers", ["event_id"], unique=False)


def downgrade() -> None:
    op.drop_table("comparisons")
    op.drop_table("gold_answers")
    op.drop_column("annotation_tasks", "overlap")
    op.drop_column("annotation_tasks", "place")
    op.drop_column("proposals", "flip_disagreement")
    op.drop_column("proposals", "entropy")


def _of_a_pair(table: str, *events: str) -> list[sa.ForeignKeyConstraint]:
    """They go with the pair and its events, when a person is removed."""
    return [
        sa.ForeignKeyConstraint(
            [column],
            [f"{target}.id"],
            name=f"fk_{table}_{column}_{target}",
            ondelete="CASCADE",
        )
        for column, target in (("pair_id", "pairs"), *((event, "events") for event in events))
    ]
