"""growth: the next batch and the counts stay fast however many pairs there are.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# pair_states is derived from events and proposals, and so are these two of its columns
POSITIONS = """
UPDATE pair_states SET
    position = (SELECT pairs.position FROM pairs WHERE pairs.id = pair_states.pair_id),
    proposed_version = coalesce(
        (SELECT proposals.model_version FROM proposals
         WHERE proposals.id = pair_states.proposal_id), '')
"""


def upgrade() -> None:
    op.drop_index("ix_pair_states_status", "pair_states")
    op.add_column("pair_states", sa.Column("position", sa.Double(), nullable=True))
    op.add_column("pair_states", sa.Column("proposed_version", sa.String(length=64), nullable=True))
    op.execute(POSITIONS)
    with op.batch_alter_table("pair_states") as batch:
        batch.alter_column("position", existing_type=sa.Double(), nullable=False)
        batch.alter_column("proposed_version", existing_type=sa.String(length=64), nullable=False)
    op.create_index(
        "ix_pair_states_conflicts", "pair_states", ["conflicts", "status"], unique=False
    )
    undecided = sa.text("pair_states.status IN ('unlabelled', 'proposed')")
    op.create_index(
        "ix_pair_states_undecided",
        "pair_states",
        ["proposed_version", "position", "pair_id"],
        unique=False,
        sqlite_where=undecided,
        postgresql_where=undecided,
    )
    reviewed = sa.text("pair_states.status IN ('accepted', 'adjusted')")
    op.create_index(
        "ix_pair_states_reviewed",
        "pair_states",
        ["pair_id"],
        unique=False,
        sqlite_where=reviewed,
        postgresql_where=reviewed,
    )
    op.create_index("ix_events_kind", "events", ["kind"], unique=False)
    op.drop_index("ix_pairs_seed_rank", "pairs")
    op.create_index("ix_pairs_seed_rank", "pairs", ["seed_rank", "position"], unique=False)
    op.drop_index("ix_proposals_model_version", "proposals")
    op.create_index(
        "ix_proposals_model_version", "proposals", ["model_version", "pair_id"], unique=False
    )


def downgrade() -> None:
    op.drop_index("ix_proposals_model_version", "proposals")
    op.create_index("ix_proposals_model_version", "proposals", ["model_version"], unique=False)
    op.drop_index("ix_pairs_seed_rank", "pairs")
    op.create_index("ix_pairs_seed_rank", "pairs", ["seed_rank"], unique=False)
    op.drop_index("ix_events_kind", "events")
    op.drop_index("ix_pair_states_reviewed", "pair_states")
    op.drop_index("ix_pair_states_undecided", "pair_states")
    op.drop_index("ix_pair_states_conflicts", "pair_states")
    with op.batch_alter_table("pair_states") as batch:
        batch.drop_column("proposed_version")
        batch.drop_column("position")
    op.create_index("ix_pair_states_status", "pair_states", ["status"], unique=False)
