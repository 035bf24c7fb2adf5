"""A large store whose pictures can be shown: many pairs, few different files behind them.

The rows are those of `growth.fill`; every image is a hard link to one of a dozen rendered faces, so that
12,000 pairs take no more of the disk than these.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from sqlalchemy import select

sys.path.insert(0, str(Path(__file__).parent))
from growth import fill

from annotator.label_studio import image_url
from dataset_engine.sample.files import write_sample
from dataset_engine.store import Store, read_rgb
from dataset_engine.store.blobs import encode_jpeg
from dataset_engine.store.tables import AnnotationProject, AnnotationTask, Image, Pair

FACES = 12
PROJECT = 7
"""Number of the Label Studio project that the pairs were sent to; task N shows pair N."""


def fill_with_pictures(store: Store, pairs: int) -> None:
    """Put so many pairs into an empty store, with their pictures and their tasks."""
    fill(store, pairs)
    with tempfile.TemporaryDirectory() as folder:
        write_sample(Path(folder), FACES // 4, 4, 0)
        faces = [encode_jpeg(read_rgb(path)) for path in sorted(Path(folder).glob("*/??.png"))]
    files = [store.images.path(store.images.put(face)) for face in faces]
    with store.reading() as session:
        wanted = list(session.scalars(select(Image.sha256).order_by(Image.id)))
    for number, sha256 in enumerate(wanted):
        path = store.images.path(sha256)
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(files[number % len(files)], path)
    with store.writing() as session:
        row = AnnotationProject(server="home", project=PROJECT)
        session.add(row)
        session.flush()
        session.add_all(
            AnnotationTask(project_id=row.id, task=pair_id, pair_id=pair_id)
            for pair_id in session.scalars(select(Pair.id))
        )


def task_of(store: Store, pair: Pair) -> dict[str, object]:
    """The pair's task as Label Studio posts it."""
    shown = {
        name: image_url(store.images.path(image.sha256).relative_to(store.served).as_posix())
        for name, image in (("gt", pair.gt), ("ref", pair.ref))
    }
    return {
        "id": pair.id,
        "data": {"pair": pair.key} | shown,
        "project": PROJECT,
        "annotations": [],
        "predictions": [],
    }
