"""A folder for each identity, ``FOLDER/IDENTITY/IMAGE``, as in CelebRef-HQ.

However many files there are, what is held at once is the identities' names, the hashes of one identity's
images, and the pictures under way.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import lru_cache

from sqlalchemy import select

from dataset_engine.faces.prepare import PrepareSettings
from dataset_engine.ingest_files import Found, Left, identity_folders, images_below, judge
from dataset_engine.preparing import Ready, prepared
from dataset_engine.progress import Advance
from dataset_engine.shards.files import file_sha256
from dataset_engine.sources.keeper import Sibling, admit, identity_of, sibling, siblings
from dataset_engine.sources.source_ingest import (
    FORGOTTEN,
    Given,
    SourceIngest,
    forgotten_detail,
)
from dataset_engine.store.pairs import add_identities, add_pairs, in_split_order
from dataset_engine.store.tables import Image

BATCH = 64
NAMES = 500


class IdentityFolders(SourceIngest):
    """One ingest of identity folders."""

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        self._identity_id = lru_cache(256)(self._look_up)
        self._current = ""
        self._others: list[Sibling] = []
        self._batch: list[Image] = []

    def take(
        self,
        pairs_per_identity: int,
        prepare: PrepareSettings,
        workers: int | None,
        progress: Advance,
    ) -> None:
        """Take all images in, then make the pairs.

        Raises:
            NotADirectoryError: there is no image in any folder.
        """
        folders = identity_folders(self._root)
        files = sum(1 for name in folders for _ in images_below(self._root / name))
        if not files:
            raise NotADirectoryError(
                f"the folder {self._root} holds no images in identity folders (IDENTITY/IMAGE)"
            )
        removed = self._forgotten(folders)
        for name in sorted(removed):
            self._left.add(Left(self._root / name, FORGOTTEN, forgotten_detail(name)))
        folders = [name for name in folders if name not in removed]
        people = [name for name in folders if self._has_image(name)]
        self._add_identities(people)
        steps = itertools.count(1)

        def step() -> None:
            progress(next(steps), files + len(people))

        for result in prepared(self._fresh(folders, step), prepare, workers):
            self._keep(result)
            step()
        self._flush()
        for name in people:
            # a transaction for each: whoever else writes waits for one identity at most
            with self._store.writing() as session:
                self._report.pairs += add_pairs(
                    session, self._identity_id(name), self._settings.seed, pairs_per_identity
                )
            step()

    def _has_image(self, name: str) -> bool:
        return any(isinstance(entry, Found) for entry in self._entries(name))

    def _entries(self, name: str) -> Iterator[Found | Left]:
        return (judge(self._root, name, path) for path in images_below(self._root / name))

    def _add_identities(self, names: list[str]) -> None:
        settings = self._settings
        ordered = in_split_order(names, settings.seed)
        for start in range(0, len(ordered), NAMES):
            with self._store.writing() as session:
                add_identities(
                    session,
                    ordered[start : start + NAMES],
                    settings.seed,
                    self._source,
                    settings.licence,
                    consent=settings.consent,
                )

    def _fresh(self, names: list[str], step: Callable[[], None]) -> Iterator[Found]:
        """The files that the store does not know; the others are counted."""
        for name in names:
            known: set[str | None] | None = None
            for entry in self._entries(name):
                if isinstance(entry, Left):
                    self._left.add(entry)
                    step()
                    continue
                if known is None:
                    known = self._known(name)
                if _sha256(entry) in known:
                    self._report.known += 1
                    step()
                else:
                    yield entry

    def _known(self, name: str) -> set[str | None]:
        of_identity = Image.identity_id == self._identity_id(name)
        with self._store.reading() as session:
            return set(session.scalars(select(Image.source_sha256).where(of_identity)))

    def _look_up(self, name: str) -> int:
        with self._store.reading() as session:
            identity = identity_of(session, self._source, name)
        if identity is None:
            raise RuntimeError(
                f"{self._root / name} was not there when the ingest began: run it again"
            )
        return identity.id

    def _keep(self, result: Ready | Left) -> None:
        if isinstance(result, Left):
            self._left.add(result)
            return
        if result.found.identity != self._current:
            self._flush()
            self._current = result.found.identity
            self._others = siblings(self._store, self._identity_id(self._current))
        image = admit(self._store, result, self._others)
        if isinstance(image, Left):
            self._left.add(image)
            return
        image.identity_id = self._identity_id(self._current)
        self._others.append(sibling(image))
        self._batch.append(image)
        if len(self._batch) >= BATCH:
            self._flush()

    def _flush(self) -> None:
        batch, self._batch = self._batch, []
        if batch:
            with self._store.writing() as session:
                session.add_all(batch)
            self._report.added += len(batch)


def _sha256(found: Found) -> str | None:
    try:
        return file_sha256(found.path)
    except OSError:  # gone, or closed: preparing it says so
        return None
