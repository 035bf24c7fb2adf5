"""Tables of the engine's database, as SQLAlchemy 2 typed models.

People's decisions live in ``events``, which is append-only (the database itself refuses updates and
deletes). ``pair_states`` is derived from it and can be rebuilt at any time; it exists so that counts
and batches stay fast however many pairs there are.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    CheckConstraint,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    MetaData,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from dataset_engine.shards.triplet import NOT_STATED
from dataset_engine.taxonomy import Conflict

HASH = String(64)

# The databases use an index of some rows only for a query that names these rows in the same words.
UNDECIDED_ROWS = "pair_states.status IN ('unlabelled', 'proposed')"
REVIEWED_ROWS = "pair_states.status IN ('accepted', 'adjusted')"


def now() -> datetime:
    """The current time, aware, in UTC."""
    return datetime.now(UTC)


class UtcDateTime(TypeDecorator[datetime]):
    """Aware UTC datetimes on databases that keep naive ones, such as SQLite."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Convert to UTC; a naive datetime is refused, since nobody can know what it means."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"naive datetime {value.isoformat()}: give it a time zone")
        return value.astimezone(UTC).replace(tzinfo=None if dialect.name == "sqlite" else UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give every datetime back as aware UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


class ConflictSet(TypeDecorator[frozenset[Conflict]]):
    """A set of conflicts as sorted words with commas, so that rows can be grouped by it anywhere."""

    impl = String(128)
    cache_ok = True

    def process_bind_param(self, value: Iterable[Conflict] | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Write the set as words."""
        return None if value is None else ",".join(sorted(value))

    def process_result_value(self, value: str | None, dialect: Dialect) -> frozenset[Conflict]:  # noqa: ARG002
        """Read the words back."""
        return frozenset(Conflict(word) for word in (value or "").split(",") if word)


class Base(DeclarativeBase):
    """Base of all tables; constraint names follow one convention so that migrations can name them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012
        datetime: UtcDateTime,
        dict[str, Any]: JSON,
        list[Any]: JSON,
        frozenset[Conflict]: ConflictSet,
    }


class Identity(Base):
    """One person, and the split that this person's images belong to.

    Folder names such as ``0001`` mean different people in different sources. ``split_given`` tells the
    splits that came with a source from those that the engine chose; the shares are of the latter.
    """

    __tablename__ = "identities"
    __table_args__ = (UniqueConstraint("source", "name"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(255))
    split: Mapped[str] = mapped_column(String(16), index=True)
    source: Mapped[str] = mapped_column(String(255))
    licence: Mapped[str] = mapped_column(String(255))
    consent: Mapped[str] = mapped_column(String(255), default=NOT_STATED, server_default=NOT_STATED)
    split_given: Mapped[bool] = mapped_column(default=False, server_default=false())
    leaving: Mapped[bool] = mapped_column(
        default=False,
        server_default=false(),
        doc="Being removed, within one transaction: only such a person's events can be deleted.",
    )
    created_at: Mapped[datetime] = mapped_column(default=now)


class Image(Base):
    """One aligned 512x512 photograph of an identity."""

    __tablename__ = "images"

    id: Mapped[int] = mapped_column(primary_key=True)
    identity_id: Mapped[int] = mapped_column(ForeignKey("identities.id"), index=True)
    name: Mapped[str] = mapped_column(String(255))
    source_sha256: Mapped[str] = mapped_column(HASH, index=True)
    sha256: Mapped[str] = mapped_column(HASH, unique=True)
    region_sha256: Mapped[str] = mapped_column(HASH)
    phash: Mapped[str] = mapped_column(String(16), index=True)
    sharpness: Mapped[float]
    five_points: Mapped[list[Any]]
    created_at: Mapped[datetime] = mapped_column(default=now)

    identity: Mapped[Identity] = relationship()


class RestorationInput(Base):
    """A degraded picture and a reference, without ground truth: to be restored, never annotated.

    It shares no row with images and pairs, so that nothing can make a pair or a triplet of it.

    ``lq_sha256`` names the degraded picture I_LQ and ``reference_sha256`` the reference I_ref, both
    512x512; ``region_sha256`` is the reference's face region. ``lq_aligned`` is false where no face was
    found in the degraded picture, so that it was taken as it was.
    """

    __tablename__ = "restoration_inputs"
    __table_args__ = (UniqueConstraint("source", "name"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    source: Mapped[str] = mapped_column(String(255))
    name: Mapped[str] = mapped_column(String(255))
    licence: Mapped[str] = mapped_column(String(255))
    consent: Mapped[str] = mapped_column(String(255), default=NOT_STATED, server_default=NOT_STATED)
    source_sha256: Mapped[str] = mapped_column(HASH)
    reference_source_sha256: Mapped[str] = mapped_column(HASH)
    lq_sha256: Mapped[str] = mapped_column(HASH)
    reference_sha256: Mapped[str] = mapped_column(HASH)
    region_sha256: Mapped[str] = mapped_column(HASH)
    lq_aligned: Mapped[bool]
    created_at: Mapped[datetime] = mapped_column(default=now)


class SetAsideFile(Base):
    """A file that ingest left out, and why."""

    __tablename__ = "set_aside"

    id: Mapped[int] = mapped_column(primary_key=True)
    path: Mapped[str] = mapped_column(String(1024), unique=True)
    reason: Mapped[str] = mapped_column(String(64), index=True)
    detail: Mapped[str] = mapped_column(Text)
    at: Mapped[datetime] = mapped_column(default=now)


class Pair(Base):
    """An ordered pair (ground truth, reference) of one identity's images.

    ``position`` is a seeded shuffle: batches taken in its order are spread over identities.
    ``seed_rank`` numbers the pairs that people annotate before any model exists.
    """

    __tablename__ = "pairs"
    __table_args__ = (
        UniqueConstraint("gt_id", "ref_id"),
        CheckConstraint("gt_id <> ref_id", name="two_images"),
        Index("ix_pairs_position", "position"),
        Index("ix_pairs_seed_rank", "seed_rank", "position"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(String(40), unique=True)
    identity_id: Mapped[int] = mapped_column(ForeignKey("identities.id"), index=True)
    gt_id: Mapped[int] = mapped_column(ForeignKey("images.id"))
    ref_id: Mapped[int] = mapped_column(ForeignKey("images.id"), index=True)
    position: Mapped[float]
    seed_rank: Mapped[int | None]
    created_at: Mapped[datetime] = mapped_column(default=now)

    identity: Mapped[Identity] = relationship()
    gt: Mapped[Image] = relationship(foreign_keys=[gt_id])
    ref: Mapped[Image] = relationship(foreign_keys=[ref_id])


class Removal(Base):
    """That a person was removed, when, and how much; nothing here says who it was.

    ``digest`` is made of ``salt`` and the person's name: whoever has a name can ask whether that person
    was removed, and nobody can read a name off it. ``files`` and ``tasks`` are what is still to be
    removed, and empty at the end. ``let_back_at`` is when somebody allowed the person in again.
    """

    __tablename__ = "removals"

    id: Mapped[int] = mapped_column(primary_key=True)
    salt: Mapped[str] = mapped_column(String(32))
    digest: Mapped[str] = mapped_column(String(80))
    removed: Mapped[dict[str, Any]]
    files: Mapped[list[Any]] = mapped_column(doc="As kind and hash: images/ab…, masks/cd….")
    tasks: Mapped[list[Any]] = mapped_column(
        doc="As server, project, task and the key of the pair that it shows."
    )
    begun_at: Mapped[datetime] = mapped_column(default=now)
    finished_at: Mapped[datetime | None] = mapped_column(doc="When the last file was gone.")
    let_back_at: Mapped[datetime | None]


class Round(Base):
    """One turn of the loop: reviewed masks, a trained U-Net, proposals for the rest."""

    __tablename__ = "rounds"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    model_version: Mapped[str] = mapped_column(String(64), unique=True)
    last_event_id: Mapped[int] = mapped_column(
        doc="Newest event when the round began: reviews after it call for a new round."
    )
    stage: Mapped[str] = mapped_column(String(16))
    metrics: Mapped[dict[str, Any]] = mapped_column(default=dict)
    created_at: Mapped[datetime] = mapped_column(default=now)


class Proposal(Base):
    """A mask from a model (or from the face-region rule) for one pair.

    ``entropy`` and ``flip_disagreement`` say how unsure the model is (see
    `dataset_engine.proposing.Proposal`); they are empty where that was not measured.
    """

    __tablename__ = "proposals"
    __table_args__ = (
        UniqueConstraint("pair_id", "model_version"),
        Index("ix_proposals_model_version", "model_version", "pair_id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    pair_id: Mapped[int] = mapped_column(ForeignKey("pairs.id"))
    model_version: Mapped[str] = mapped_column(String(64))
    round: Mapped[int]
    mask_sha256: Mapped[str] = mapped_column(HASH)
    score: Mapped[float]
    entropy: Mapped[float | None]
    flip_disagreement: Mapped[float | None]
    created_at: Mapped[datetime] = mapped_column(default=now)


class AnnotationProject(Base):
    """A project on a Label Studio server.

    ``server`` is the server's URL, or ``home`` for the one that the engine starts itself, whose port
    may change from day to day. A server that was set up anew counts its projects from 1 again, so the
    moment at which the server made the project tells the two apart.
    """

    __tablename__ = "annotation_projects"
    __table_args__ = (UniqueConstraint("server", "project", "made_at"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    server: Mapped[str] = mapped_column(String(512))
    project: Mapped[int]
    made_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(default=now)


class AnnotationTask(Base):
    """The Label Studio task that shows a pair.

    ``place`` is where it stands in the order in which tasks are offered, lowest first, and ``overlap``
    how many people it is offered to.
    """

    __tablename__ = "annotation_tasks"
    __table_args__ = (
        UniqueConstraint("project_id", "task"),
        UniqueConstraint("project_id", "pair_id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("annotation_projects.id"))
    task: Mapped[int]
    pair_id: Mapped[int] = mapped_column(ForeignKey("pairs.id"), index=True)
    predicted_version: Mapped[str | None] = mapped_column(String(64), index=True)
    place: Mapped[float | None]
    overlap: Mapped[int] = mapped_column(default=1, server_default="1")
    created_at: Mapped[datetime] = mapped_column(default=now)


class Event(Base):
    """What a person did to a pair. Append-only.

    ``key`` makes recording idempotent: a webhook, its repetition and a later sync of the same
    annotation at the same ``annotation_updated_at`` all carry the same key.
    """

    __tablename__ = "events"
    __table_args__ = (
        Index("ix_events_annotation", "project_id", "annotation"),
        Index("ix_events_kind", "kind"),
        Index("ix_events_pair_id", "pair_id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(String(160), unique=True)
    pair_id: Mapped[int] = mapped_column(ForeignKey("pairs.id"))
    kind: Mapped[str] = mapped_column(String(16))
    source: Mapped[str] = mapped_column(String(16))
    actor: Mapped[str] = mapped_column(String(255))
    at: Mapped[datetime] = mapped_column(default=now)
    project_id: Mapped[int | None] = mapped_column(ForeignKey("annotation_projects.id"))
    annotation: Mapped[int | None]
    annotation_updated_at: Mapped[datetime]
    status: Mapped[str | None] = mapped_column(String(16))
    mask_before: Mapped[str | None] = mapped_column(HASH)
    mask_after: Mapped[str | None] = mapped_column(HASH)
    conflicts: Mapped[frozenset[Conflict]] = mapped_column(default=frozenset)
    model_version: Mapped[str | None] = mapped_column(String(64))
    lead_time: Mapped[float | None]
    round: Mapped[int | None] = mapped_column(
        doc="Round of an imported review's mask; that of the pair's proposal otherwise."
    )
    detail: Mapped[str] = mapped_column(Text, default="")


class GoldAnswer(Base):
    """A pair whose right answer is known: that of one of its events, which annotators are tested by."""

    __tablename__ = "gold_answers"

    pair_id: Mapped[int] = mapped_column(
        ForeignKey("pairs.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    event_id: Mapped[int] = mapped_column(ForeignKey("events.id", ondelete="CASCADE"), index=True)
    set_by: Mapped[str] = mapped_column(String(255))
    created_at: Mapped[datetime] = mapped_column(default=now)


class Comparison(Base):
    """How an annotator's answer to a pair compares with the gold one, or with another annotator's.

    ``event_id`` is the answer and ``other_event_id`` the gold answer or the earlier one. The pixels are
    those of the face region, counted by who keeps them; they are empty where somebody rejected the pair.
    """

    __tablename__ = "comparisons"
    __table_args__ = (UniqueConstraint("event_id", "other_event_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    pair_id: Mapped[int] = mapped_column(ForeignKey("pairs.id", ondelete="CASCADE"), index=True)
    event_id: Mapped[int] = mapped_column(ForeignKey("events.id", ondelete="CASCADE"))
    other_event_id: Mapped[int] = mapped_column(
        ForeignKey("events.id", ondelete="CASCADE"), index=True
    )
    gold: Mapped[bool]
    agrees: Mapped[bool]
    both_keep: Mapped[int | None]
    first_only: Mapped[int | None]
    second_only: Mapped[int | None]
    neither_keeps: Mapped[int | None]
    boundary_f: Mapped[float | None]
    created_at: Mapped[datetime] = mapped_column(default=now)


class PairState(Base):
    """The current state of a pair, derived from its events and proposals.

    ``position`` is the pair's, and ``proposed_version`` the model version of its newest proposal (empty
    while it has none): with both in one index, the next batch is read off it, however many pairs
    come before that are decided already or have the round's proposal.
    """

    __tablename__ = "pair_states"
    __table_args__ = (
        Index("ix_pair_states_conflicts", "conflicts", "status"),
        Index(
            "ix_pair_states_undecided",
            "proposed_version",
            "position",
            "pair_id",
            sqlite_where=text(UNDECIDED_ROWS),
            postgresql_where=text(UNDECIDED_ROWS),
        ),
        Index(
            "ix_pair_states_reviewed",
            "pair_id",
            sqlite_where=text(REVIEWED_ROWS),
            postgresql_where=text(REVIEWED_ROWS),
        ),
    )

    pair_id: Mapped[int] = mapped_column(ForeignKey("pairs.id"), primary_key=True)
    status: Mapped[str] = mapped_column(String(16))
    mask_sha256: Mapped[str | None] = mapped_column(HASH)
    conflicts: Mapped[frozenset[Conflict]] = mapped_column(default=frozenset)
    event_id: Mapped[int | None] = mapped_column(ForeignKey("events.id"))
    proposal_id: Mapped[int | None] = mapped_column(ForeignKey("proposals.id"))
    position: Mapped[float]
    proposed_version: Mapped[str] = mapped_column(String(64), default="")


class RowCount(Base):
    """How many rows of a table have one label: the sum of ``number`` over the rows here.

    The database itself keeps them, by triggers, in the transaction that changes what is counted.
    ``counted`` is the table; ``label`` is the split of identities, the status of pair states, the model
    version of proposals, the kind of events, and empty for images. ``conflicts`` and
    ``proposed_version`` are those of pair states and empty otherwise.
    """

    __tablename__ = "row_counts"
    __table_args__ = (
        Index("ix_row_counts_counted", "counted", "label", "conflicts", "proposed_version"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    counted: Mapped[str] = mapped_column(String(64))
    label: Mapped[str] = mapped_column(String(64))
    conflicts: Mapped[frozenset[Conflict]]
    proposed_version: Mapped[str] = mapped_column(String(64))
    number: Mapped[int]
