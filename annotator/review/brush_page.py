"""Where a pair is painted: its task in Label Studio."""

from __future__ import annotations

from sqlalchemy import select

from annotator.workplace import open_address
from dataset_engine.store import Store
from dataset_engine.store.tables import AnnotationProject, AnnotationTask, Pair


class NoBrushPageError(LookupError):
    """The pair cannot be painted at this moment; the message says why."""


def brush_page(store: Store, server: str, url: str | None, key: str) -> str:
    """URL of the labelling page on which a pair is painted.

    Args:
        store: the store.
        server: see `AnnotationProject.server`.
        url: base URL of that server, as people's browsers need it; None for the one that
            `engine annotate` holds open.
        key: the pair's key.

    Raises:
        NoBrushPageError: the pair was never sent there, or the server is not running.
    """
    with store.reading() as session:
        task = session.execute(
            select(AnnotationProject.project, AnnotationTask.task)
            .join(AnnotationTask, AnnotationTask.project_id == AnnotationProject.id)
            .join(Pair, Pair.id == AnnotationTask.pair_id)
            .where(AnnotationProject.server == server, Pair.key == key)
            .order_by(AnnotationProject.id.desc())
            .limit(1)
        ).first()
    if task is None:
        raise NoBrushPageError(
            "This pair was not sent to Label Studio yet: `engine bootstrap` sends proposals"
        )
    base = url or open_address(store.home)
    if base is None:
        raise NoBrushPageError("Label Studio is not running: start it with `engine annotate`")
    return f"{base}/projects/{task.project}/data?task={task.task}"
