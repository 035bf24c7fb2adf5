"""Taking annotations in: from a webhook's body or a sync's poll to a recorded decision.

A webhook is a hint and a sync is the truth; both come through here, so that both bring the same state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select

from annotator.results import AnnotationError, parse_annotation
from dataset_engine.store import Store
from dataset_engine.store.comparing import compare_answers
from dataset_engine.store.queries import latest_proposal
from dataset_engine.store.reviews import (
    Decision,
    EventKind,
    Recorded,
    Source,
    record,
    record_deletion,
)
from dataset_engine.store.tables import AnnotationProject, AnnotationTask, Image, Pair
from dataset_engine.taxonomy import Conflict

HOME_SERVER = "home"
"""`AnnotationProject.server` of the Label Studio that the engine starts itself."""


MOST_ROWS = 2**31
"""Row numbers lie below this, in Label Studio's database as in the engine's."""


class UnknownTaskError(LookupError):
    """The annotation belongs to a task, a project or an annotation that the engine does not have."""


@dataclass(frozen=True)
class Taken:
    """What became of one annotation: see `dataset_engine.store.reviews.Recorded`.

    Attributes:
        unusable: why the annotation could not be read, or "" when it could.
    """

    recorded: Recorded
    unusable: str = ""


def take_annotation(
    store: Store,
    project_id: int,
    annotation: Mapping[str, Any],
    source: Source,
    made_at: datetime | None = None,
) -> Taken:
    """Record what an annotation says, and compare it with what others answered.

    Args:
        store: the store.
        project_id: row id of the annotation project that the annotation must belong to.
        annotation: Label Studio's annotation, with ``id``, ``task``, ``result``, ``updated_at``.
        source: webhook or sync.
        made_at: when the person decided, where the annotation is a copy that was made later.

    Raises:
        UnknownTaskError: the task is not one that the engine sent.
        AnnotationError: there is no id, no task or no time in it.
    """
    number, task, updated_at = checked_annotation(annotation)
    with store.reading() as session:
        row = session.execute(
            select(Pair.id, Image.region_sha256)
            .join(AnnotationTask, AnnotationTask.pair_id == Pair.id)
            .join(Image, Image.id == Pair.ref_id)
            .where(AnnotationTask.project_id == project_id, AnnotationTask.task == task)
        ).one_or_none()
    if row is None:
        raise UnknownTaskError(f"task {task} is not one that this engine sent to the project")
    pair_id, region_sha256 = row
    kind, detail = EventKind.SUBMITTED, ""
    accepted, mask = None, None
    conflicts: frozenset[Conflict] = frozenset()
    if annotation.get("was_cancelled"):
        kind = EventKind.SKIPPED
    else:
        try:
            parsed = parse_annotation(annotation, store.mask(region_sha256))
            if parsed.verdict is None:
                raise AnnotationError("no verdict was given: pick accept or reject")
            accepted, mask = parsed.verdict == "accept", parsed.mask
            if accepted and mask is None:
                mask = _empty_proposal(store, pair_id)
            conflicts = parsed.conflicts
        except AnnotationError as error:
            kind, detail = EventKind.UNUSABLE, str(error)
    lead_time = annotation.get("lead_time")
    recorded = record(
        store,
        Decision(
            pair_id=pair_id,
            project_id=project_id,
            annotation=number,
            updated_at=updated_at,
            kind=kind,
            source=source,
            actor=_actor(annotation),
            accepted=accepted,
            mask=mask,
            conflicts=conflicts,
            lead_time=float(lead_time) if isinstance(lead_time, int | float) else None,
            detail=detail,
            made_at=made_at,
        ),
    )
    # also of what was known: a crash may have come between the two
    compare_answers(store, pair_id)
    return Taken(recorded, detail)


def checked_annotation(annotation: Mapping[str, Any]) -> tuple[int, int, datetime]:
    """An annotation's id, its task's id and the time of its last change.

    Raises:
        AnnotationError: one of them is not in it.
    """
    return number_in(annotation, "id"), number_in(annotation, "task"), _time(annotation)


def take_deletion(store: Store, project_id: int, annotation: int, source: Source) -> Taken:
    """Record that an annotation was deleted; its masks stay.

    Raises:
        UnknownTaskError: the engine never had this annotation.
    """
    recorded = record_deletion(store, project_id, annotation, source, "label-studio")
    if recorded is None:
        raise UnknownTaskError(f"annotation {annotation} is not known to this engine")
    compare_answers(store, recorded.pair_id)  # of three answers two may be left
    return Taken(recorded)


def project_row(store: Store, server: str, project: int, made_at: datetime | None = None) -> int:
    """The row id of a Label Studio project, made when it is new.

    Args:
        store: the store.
        server: see `AnnotationProject.server`.
        project: Label Studio's project id.
        made_at: when the server made the project: another moment is another project.
    """
    with store.writing() as session:
        row = session.scalars(
            select(AnnotationProject).where(
                AnnotationProject.server == server,
                AnnotationProject.project == project,
                AnnotationProject.made_at == made_at,
            )
        ).one_or_none()
        if row is None:
            row = AnnotationProject(server=server, project=project, made_at=made_at)
            session.add(row)
            session.flush()
        return row.id


def known_project(store: Store, server: str, project: int) -> int:
    """The row id of a Label Studio project that this engine made.

    Args:
        store: the store.
        server: see `AnnotationProject.server`.
        project: Label Studio's project id.

    Raises:
        UnknownTaskError: it is another one.
    """
    with store.reading() as session:
        row = session.scalars(
            select(AnnotationProject.id)
            .where(AnnotationProject.server == server, AnnotationProject.project == project)
            .order_by(AnnotationProject.id.desc())
            .limit(1)
        ).first()
    if row is None:
        raise UnknownTaskError(f"project {project} is not one of this engine's")
    return row


def number_in(fields: Mapping[str, Any], name: str) -> int:
    """A row number as Label Studio uses them.

    Raises:
        AnnotationError: it is missing, or no such number.
    """
    value = fields.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < MOST_ROWS:
        raise AnnotationError(f"{name} is {str(value)[:40]!r}, not a row number")
    return value


def _empty_proposal(store: Store, pair_id: int) -> NDArray[np.bool_]:
    """The mask of a proposal that keeps nothing: Label Studio has no region to show for it.

    Raises:
        AnnotationError: the pair's proposal keeps something, so the mask was erased or forgotten.
    """
    with store.reading() as session:
        proposal = latest_proposal(session, pair_id)
    mask = None if proposal is None else store.mask(proposal.mask_sha256)
    if mask is None or mask.any():
        raise AnnotationError("accepted, but there is no mask")
    return mask


def _time(annotation: Mapping[str, Any]) -> datetime:
    value = annotation.get("updated_at")
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError as error:
        raise AnnotationError(f"the annotation's updated_at is {value!r}, not a time") from error
    if moment.tzinfo is None:
        raise AnnotationError(f"the annotation's updated_at {value!r} has no time zone")
    return moment


def _actor(annotation: Mapping[str, Any]) -> str:
    who = annotation.get("updated_by") or annotation.get("completed_by")
    if isinstance(who, Mapping):
        who = who.get("id")
    return f"label-studio:{who}" if who is not None else "label-studio"
