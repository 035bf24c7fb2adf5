"""first schema.

Revision ID: 0001
Revises:
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

POSTGRESQL_GUARD = """
CREATE FUNCTION events_are_append_only() RETURNS trigger AS $$
BEGIN RAISE EXCEPTION 'events are append-only'; END;
$$ LANGUAGE plpgsql;
CREATE TRIGGER events_guard BEFORE UPDATE OR DELETE ON events
FOR EACH ROW EXECUTE FUNCTION events_are_append_only();
CREATE TRIGGER events_guard_truncate BEFORE TRUNCATE ON events
FOR EACH STATEMENT EXECUTE FUNCTION events_are_append_only();
"""


def upgrade() -> None:
    op.create_table(
        "annotation_projects",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("server", sa.String(length=512), nullable=False),
        sa.Column("project", sa.Integer(), nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_annotation_projects"),
        sa.UniqueConstraint(
            "server", "project", "made_at", name="uq_annotation_projects_server_project_made_at"
        ),
    )
    op.create_table(
        "identities",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("split", sa.String(length=16), nullable=False),
        sa.Column("source", sa.String(length=255), nullable=False),
        sa.Column("licence", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_identities"),
        sa.UniqueConstraint("source", "name", name="uq_identities_source_name"),
    )
    op.create_index("ix_identities_split", "identities", ["split"], unique=False)

    op.create_table(
        "rounds",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("model_version", sa.String(length=64), nullable=False),
        sa.Column("last_event_id", sa.Integer(), nullable=False),
        sa.Column("stage", sa.String(length=16), nullable=False),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_rounds"),
        sa.UniqueConstraint("model_version", name="uq_rounds_model_version"),
    )
    op.create_table(
        "set_aside",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("path", sa.String(length=1024), nullable=False),
        sa.Column("reason", sa.String(length=64), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_set_aside"),
        sa.UniqueConstraint("path", name="uq_set_aside_path"),
    )
    op.create_index("ix_set_aside_reason", "set_aside", ["reason"], unique=False)

    op.create_table(
        "images",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("identity_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("source_sha256", sa.String(length=64), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("region_sha256", sa.String(length=64), nullable=False),
        sa.Column("phash", sa.String(length=16), nullable=False),
        sa.Column("sharpness", sa.Double(), nullable=False),
        sa.Column("five_points", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["identity_id"], ["identities.id"], name="fk_images_identity_id_identities"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_images"),
        sa.UniqueConstraint("sha256", name="uq_images_sha256"),
    )
    op.create_index("ix_images_identity_id", "images", ["identity_id"], unique=False)
    op.create_index("ix_images_phash", "images", ["phash"], unique=False)
    op.create_index("ix_images_source_sha256", "images", ["source_sha256"], unique=False)

    op.create_table(
        "pairs",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(length=40), nullable=False),
        sa.Column("identity_id", sa.Integer(), nullable=False),
        sa.Column("gt_id", sa.Integer(), nullable=False),
        sa.Column("ref_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Double(), nullable=False),
        sa.Column("seed_rank", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("gt_id <> ref_id", name="ck_pairs_two_images"),
        sa.ForeignKeyConstraint(["gt_id"], ["images.id"], name="fk_pairs_gt_id_images"),
        sa.ForeignKeyConstraint(
            ["identity_id"], ["identities.id"], name="fk_pairs_identity_id_identities"
        ),
        sa.ForeignKeyConstraint(["ref_id"], ["images.id"], name="fk_pairs_ref_id_images"),
        sa.PrimaryKeyConstraint("id", name="pk_pairs"),
        sa.UniqueConstraint("gt_id", "ref_id", name="uq_pairs_gt_id_ref_id"),
        sa.UniqueConstraint("key", name="uq_pairs_key"),
    )
    op.create_index("ix_pairs_identity_id", "pairs", ["identity_id"], unique=False)
    op.create_index("ix_pairs_position", "pairs", ["position"], unique=False)
    op.create_index("ix_pairs_ref_id", "pairs", ["ref_id"], unique=False)
    op.create_index("ix_pairs_seed_rank", "pairs", ["seed_rank"], unique=False)

    op.create_table(
        "annotation_tasks",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("task", sa.Integer(), nullable=False),
        sa.Column("pair_id", sa.Integer(), nullable=False),
        sa.Column("predicted_version", sa.String(length=64), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["pair_id"], ["pairs.id"], name="fk_annotation_tasks_pair_id_pairs"
        ),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["annotation_projects.id"],
            name="fk_annotation_tasks_project_id_annotation_projects",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_annotation_tasks"),
        sa.UniqueConstraint("project_id", "pair_id", name="uq_annotation_tasks_project_id_pair_id"),
        sa.UniqueConstraint("project_id", "task", name="uq_annotation_tasks_project_id_task"),
    )
    op.create_index("ix_annotation_tasks_pair_id", "annotation_tasks", ["pair_id"], unique=False)
    op.create_index(
        "ix_annotation_tasks_predicted_version",
        "annotation_tasks",
        ["predicted_version"],
        unique=False,
    )

    op.create_table(
        "events",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(length=160), nullable=False),
        sa.Column("pair_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("source", sa.String(length=16), nullable=False),
        sa.Column("actor", sa.String(length=255), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("project_id", sa.Integer(), nullable=True),
        sa.Column("annotation", sa.Integer(), nullable=True),
        sa.Column("annotation_updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=True),
        sa.Column("mask_before", sa.String(length=64), nullable=True),
        sa.Column("mask_after", sa.String(length=64), nullable=True),
        sa.Column("conflicts", sa.String(length=128), nullable=False),
        sa.Column("model_version", sa.String(length=64), nullable=True),
        sa.Column("lead_time", sa.Double(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["pair_id"], ["pairs.id"], name="fk_events_pair_id_pairs"),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["annotation_projects.id"],
            name="fk_events_project_id_annotation_projects",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_events"),
        sa.UniqueConstraint("key", name="uq_events_key"),
    )
    op.create_index("ix_events_annotation", "events", ["project_id", "annotation"], unique=False)
    op.create_index("ix_events_pair_id", "events", ["pair_id"], unique=False)

    op.create_table(
        "proposals",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("pair_id", sa.Integer(), nullable=False),
        sa.Column("model_version", sa.String(length=64), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("mask_sha256", sa.String(length=64), nullable=False),
        sa.Column("score", sa.Double(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["pair_id"], ["pairs.id"], name="fk_proposals_pair_id_pairs"),
        sa.PrimaryKeyConstraint("id", name="pk_proposals"),
        sa.UniqueConstraint("pair_id", "model_version", name="uq_proposals_pair_id_model_version"),
    )
    op.create_index("ix_proposals_model_version", "proposals", ["model_version"], unique=False)

    op.create_table(
        "pair_states",
        sa.Column("pair_id", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("mask_sha256", sa.String(length=64), nullable=True),
        sa.Column("conflicts", sa.String(length=128), nullable=False),
        sa.Column("event_id", sa.Integer(), nullable=True),
        sa.Column("proposal_id", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(["event_id"], ["events.id"], name="fk_pair_states_event_id_events"),
        sa.ForeignKeyConstraint(["pair_id"], ["pairs.id"], name="fk_pair_states_pair_id_pairs"),
        sa.ForeignKeyConstraint(
            ["proposal_id"], ["proposals.id"], name="fk_pair_states_proposal_id_proposals"
        ),
        sa.PrimaryKeyConstraint("pair_id", name="pk_pair_states"),
    )
    op.create_index("ix_pair_states_status", "pair_states", ["status"], unique=False)

    if op.get_bind().dialect.name == "sqlite":
        for action in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER events_guard_{action.lower()} BEFORE {action} ON events "
                "BEGIN SELECT RAISE(ABORT, 'events are append-only'); END"
            )
    elif op.get_bind().dialect.name == "postgresql":
        op.execute(POSTGRESQL_GUARD)


def downgrade() -> None:
    op.drop_table("pair_states")
    op.drop_table("proposals")
    op.drop_table("events")
    op.drop_table("annotation_tasks")
    op.drop_table("pairs")
    op.drop_table("images")
    op.drop_table("set_aside")
    op.drop_table("rounds")
    op.drop_table("identities")
    op.drop_table("annotation_projects")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION events_are_append_only()")
