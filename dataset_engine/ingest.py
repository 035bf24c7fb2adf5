"""`engine ingest`: identity folders in; aligned images, face regions and pairs out.

Nothing in the folder is changed. A file that cannot be used is set aside with its reason and never
stops the run; a second run adds only what is new.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import select

from dataset_engine.faces.prepare import PrepareSettings
from dataset_engine.faces.quality import hamming
from dataset_engine.ingest_files import Found, Left, find_images
from dataset_engine.ingest_report import IngestReport, record_set_aside
from dataset_engine.preparing import Ready, file_sha256, prepared
from dataset_engine.progress import Advance, silent
from dataset_engine.same_picture import NEAR_DUPLICATE_BITS, same_picture
from dataset_engine.settings import Settings
from dataset_engine.shards.images import decode_rgb
from dataset_engine.store import Store
from dataset_engine.store.pairs import add_identities, add_pairs, relicense
from dataset_engine.store.tables import Image

BATCH = 64


def ingest(
    store: Store,
    settings: Settings,
    folder: Path,
    *,
    pairs_per_identity: int = 12,
    prepare: PrepareSettings | None = None,
    workers: int | None = None,
    progress: Advance = silent,
) -> IngestReport:
    """Take identity folders into the store.

    An identity is a folder's name within a source, and a source is the ingested folder's own name:
    the same name in another source is another person.

    Args:
        store: the store.
        settings: seed, licence and parser weights are read from it. A licence that was given, not
            left at its default, also becomes that of the folder's identities of earlier runs.
        folder: holds a folder for each identity.
        pairs_per_identity: at most this many ordered pairs are made of one identity's images.
        prepare: limits on images; the defaults suit photographs of a few hundred pixels and more.
        workers: processes that align and analyse; as many as there are cores otherwise.
        progress: called with the number of steps done and of all steps; a step is a file, or the
            pairs of an identity.

    Raises:
        NotADirectoryError: the folder is not there, or holds no identity folder.
    """
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is not a folder: give one with a folder per identity")
    root = folder.resolve()
    prepare = prepare or PrepareSettings(parser_weights=settings.parser_weights)
    report = IngestReport()
    found: list[Found] = []
    for entry in find_images(root):
        if isinstance(entry, Left):
            report.left.append(entry)
        else:
            found.append(entry)
    if not found and not report.left:
        raise NotADirectoryError(f"{folder} holds no images in identity folders (IDENTITY/IMAGE)")
    with store.writing() as session:
        made = add_identities(
            session,
            {f.identity for f in found},
            settings.seed,
            root.name or "root",
            settings.licence,
        )
        if "licence" in settings.model_fields_set:
            report.relicensed = relicense(made.values(), settings.licence)
        session.flush()
        identities = {name: identity.id for name, identity in made.items()}
    keeper = _Keeper(store, identities, report)
    total = len(found) + len(identities)
    steps = itertools.count(1)

    def fresh() -> Iterator[Found]:
        for file in found:
            if keeper.knows(file):
                report.known += 1
                progress(next(steps), total)
            else:
                yield file

    for result in prepared(fresh(), prepare, workers):
        keeper.take(result)
        progress(next(steps), total)
    keeper.flush()
    for identity_id in sorted(identities.values()):
        # a transaction for each: whoever else writes waits for one identity at most
        with store.writing() as session:
            report.pairs += add_pairs(session, identity_id, settings.seed, pairs_per_identity)
        progress(next(steps), total)
    report.report = record_set_aside(store, root, report.left)
    return report


class _Sibling(NamedTuple):
    """An image of an identity that is kept; ``sha256`` names its aligned image."""

    phash: str
    sha256: str
    name: str


class _Keeper:
    """Puts prepared images into the store in batches, and sees duplicates."""

    def __init__(self, store: Store, identities: dict[str, int], report: IngestReport) -> None:
        self._store = store
        self._identities = identities
        self._report = report
        self._batch: list[Ready | Left] = []
        self._unwritten: dict[str, bytes] = {}
        with store.reading() as session:
            rows = session.execute(
                select(
                    Image.identity_id, Image.name, Image.source_sha256, Image.sha256, Image.phash
                )
            )
            self._known = set()
            self._hashes: dict[str, str] = {}
            self._siblings: dict[int, list[_Sibling]] = {}
            for identity_id, name, source, sha256, phash in rows:
                self._known.add((identity_id, source))
                self._hashes[sha256] = name
                self._siblings.setdefault(identity_id, []).append(_Sibling(phash, sha256, name))

    def knows(self, found: Found) -> bool:
        try:
            return (self._identities[found.identity], file_sha256(found.path)) in self._known
        except OSError:
            return False

    def take(self, result: Ready | Left) -> None:
        self._batch.append(result if isinstance(result, Left) else self._judge(result))
        if len(self._batch) >= BATCH:
            self.flush()

    def _judge(self, ready: Ready) -> Ready | Left:
        identity_id = self._identities[ready.found.identity]
        sha256 = hashlib.sha256(ready.jpeg).hexdigest()
        if sha256 in self._hashes:
            same = self._hashes[sha256]
            return Left(ready.found.path, "duplicate", f"the same picture as {same}")
        siblings = self._siblings.setdefault(identity_id, [])
        for sibling in siblings:
            if self._same(ready, sibling):
                detail = f"nearly the same as {sibling.name}"
                return Left(ready.found.path, "near_duplicate", detail)
        siblings.append(_Sibling(ready.phash, sha256, ready.found.name))
        self._hashes[sha256] = ready.found.name
        self._unwritten[sha256] = ready.jpeg
        return ready

    def _same(self, ready: Ready, sibling: _Sibling) -> bool:
        """Whether a close hash and the pixels say that both are one photograph."""
        if hamming(sibling.phash, ready.phash) > NEAR_DUPLICATE_BITS:
            return False
        jpeg = self._unwritten.get(sibling.sha256) or self._store.images.read(sibling.sha256)
        return same_picture(decode_rgb(jpeg), decode_rgb(ready.jpeg))

    def flush(self) -> None:
        batch, self._batch = self._batch, []
        store = self._store
        stored = [
            (r, store.images.put(r.jpeg), store.masks.put(r.region_png))
            for r in batch
            if isinstance(r, Ready)
        ]
        left = [result for result in batch if isinstance(result, Left)]
        with store.writing() as session:
            for ready, sha256, region_sha256 in stored:
                session.add(
                    Image(
                        identity_id=self._identities[ready.found.identity],
                        name=ready.found.name[:255],
                        source_sha256=ready.source_sha256,
                        sha256=sha256,
                        region_sha256=region_sha256,
                        phash=ready.phash,
                        sharpness=ready.sharpness,
                        five_points=ready.five_points,
                    )
                )
        self._unwritten.clear()
        self._report.added += len(stored)
        self._report.left.extend(left)
