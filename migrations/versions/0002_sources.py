"""more sources: restoration inputs without ground truth, given splits, rounds of imported reviews.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "restoration_inputs",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("source", sa.String(length=255), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("licence", sa.String(length=255), nullable=False),
        sa.Column("source_sha256", sa.String(length=64), nullable=False),
        sa.Column("reference_source_sha256", sa.String(length=64), nullable=False),
        sa.Column("lq_sha256", sa.String(length=64), nullable=False),
        sa.Column("reference_sha256", sa.String(length=64), nullable=False),
        sa.Column("region_sha256", sa.String(length=64), nullable=False),
        sa.Column("lq_aligned", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_restoration_inputs"),
        sa.UniqueConstraint("source", "name", name="uq_restoration_inputs_source_name"),
    )
    op.add_column(
        "identities",
        sa.Column("split_given", sa.Boolean(), server_default=sa.false(), nullable=False),
    )
    op.add_column("events", sa.Column("round", sa.Integer(), nullable=True))


def downgrade() -> None:
    op.drop_column("events", "round")
    op.drop_column("identities", "split_given")
    op.drop_table("restoration_inputs")
