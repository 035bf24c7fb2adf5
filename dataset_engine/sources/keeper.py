"""Lets prepared images into the store, and sees that none of them is there already."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from dataset_engine.faces.quality import hamming
from dataset_engine.ingest_files import Left
from dataset_engine.preparing import Ready
from dataset_engine.same_picture import NEAR_DUPLICATE_BITS, same_picture
from dataset_engine.shards.images import decode_rgb
from dataset_engine.store import Store
from dataset_engine.store.tables import Identity, Image


class Sibling(NamedTuple):
    """An image of the same identity; ``sha256`` names its aligned image."""

    phash: str
    sha256: str
    name: str


def siblings(store: Store, identity_id: int) -> list[Sibling]:
    """The images of an identity."""
    query = select(Image.phash, Image.sha256, Image.name).where(Image.identity_id == identity_id)
    with store.reading() as session:
        return [Sibling(*row) for row in session.execute(query)]


def admit(store: Store, ready: Ready, others: list[Sibling]) -> Image | Left:
    """Keep an image's files, unless it is a copy of one that the store has.

    Args:
        store: the store.
        ready: the image.
        others: all images of the same identity, those that are not in the database yet, too.

    Returns:
        A row that the caller gives its identity and adds, or why the image is set aside.
    """
    sha256 = hashlib.sha256(ready.jpeg).hexdigest()
    same = next((other.name for other in others if other.sha256 == sha256), None)
    if same is None:
        with store.reading() as session:
            same = session.scalar(select(Image.name).where(Image.sha256 == sha256))
    if same is not None:
        return Left(ready.found.path, "duplicate", f"the same picture as {same}")
    for other in others:
        if _same(store, ready, other):
            detail = f"nearly the same as {other.name}"
            return Left(ready.found.path, "near_duplicate", detail)
    return Image(
        name=ready.found.name[:255],
        source_sha256=ready.source_sha256,
        sha256=store.images.put(ready.jpeg),
        region_sha256=store.masks.put(ready.region_png),
        phash=ready.phash,
        sharpness=ready.sharpness,
        five_points=ready.five_points,
    )


def sibling(image: Image) -> Sibling:
    """What is compared of an image that was let in."""
    return Sibling(image.phash, image.sha256, image.name)


def identity_of(session: Session, source: str, name: str) -> Identity | None:
    """The identity of this name in a source, or None."""
    query = select(Identity).where(Identity.source == source, Identity.name == name)
    return session.scalars(query).one_or_none()


def image_of_file(session: Session, source_sha256: str) -> Image | None:
    """The image that was made of a file with these bytes, whoever's it is, or None."""
    query = select(Image).where(Image.source_sha256 == source_sha256)
    return session.scalars(query.order_by(Image.id).limit(1)).first()


def _same(store: Store, ready: Ready, other: Sibling) -> bool:
    """Whether a close hash and the pixels say that both are one photograph."""
    if hamming(other.phash, ready.phash) > NEAR_DUPLICATE_BITS:
        return False
    return same_picture(decode_rgb(store.images.read(other.sha256)), decode_rgb(ready.jpeg))
