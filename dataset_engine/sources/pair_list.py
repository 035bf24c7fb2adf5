"""A CSV file of pairs: exactly its pairs are made.

A row waits until both of its pictures are prepared; then the person is known, and the pair is made. Few
rows and pictures are held at once, whatever the length of the file.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

from sqlalchemy import select
from sqlalchemy.orm import Session

from dataset_engine.faces.prepare import PrepareSettings
from dataset_engine.ingest_files import Found, Left, judge, printable
from dataset_engine.preparing import Ready, prepared
from dataset_engine.progress import Advance
from dataset_engine.shards.files import file_sha256
from dataset_engine.sources.keeper import (
    Sibling,
    admit,
    identity_of,
    image_of_file,
    sibling,
    siblings,
)
from dataset_engine.sources.pair_table import LONGEST_NAME, Row, count_lines, read_rows
from dataset_engine.sources.source_ingest import (
    FORGOTTEN,
    Given,
    SourceIngest,
    forgotten_detail,
)
from dataset_engine.store.pairs import add_identities, add_pair
from dataset_engine.store.removals import forgotten
from dataset_engine.store.tables import Identity, Image, Pair

REMEMBERED = 256
"""Files that are remembered after their row, because the next rows often name them again."""
LONGEST_DETAIL = 500


@dataclass
class _Picture:
    """A file of one row or several.

    Attributes:
        sha256: that of the file's bytes.
        outcome: what came of preparing it; None where it is under way, or in the store already.
    """

    path: str
    sha256: str = ""
    outcome: Ready | Left | None = None
    under_way: bool = False


class _RowLeft(Exception):  # noqa: N818 - it names a finding
    """A row of which no pair can be made, and why."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class PairList(SourceIngest):
    """One ingest of a CSV file of pairs."""

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        self._path = given.root
        self._source = given.root.stem
        self._rows: deque[tuple[Row, _Picture, _Picture]] = deque()
        self._under_way: deque[_Picture] = deque()
        self._recent: OrderedDict[str, _Picture] = OrderedDict()
        self._known_pairs = 0

    def take(self, prepare: PrepareSettings, workers: int | None, progress: Advance) -> None:
        """Make the pair of each row.

        Raises:
            PairTableError: the file is no table of pairs.
            OSError: it cannot be read.
        """
        total = max(1, count_lines(self._path))
        steps = itertools.count(1)
        for result in prepared(self._fresh(), prepare, workers):
            picture = self._under_way.popleft()
            picture.outcome, picture.under_way = result, False
            for _ in range(self._settle_rows()):
                progress(next(steps), total)
        self._settle_rows()
        progress(total, total)
        if self._known_pairs:
            self._report.notes.append(f"{self._known_pairs} pairs were in the store already")

    def _fresh(self) -> Iterator[Found]:
        """The files that the store does not know, in the order of the rows that name them."""
        for row in read_rows(self._path):
            if isinstance(row, Left):
                self._left.add(row)
                continue
            for text in (row.gt, row.reference):
                if text not in self._recent:
                    picture = self._recent[text] = _Picture(text)
                    if found := self._look_at(picture):
                        self._under_way.append(picture)
                        yield found
                self._recent.move_to_end(text)
            self._rows.append((row, self._recent[row.gt], self._recent[row.reference]))
            self._settle_rows()
            while len(self._recent) > REMEMBERED:
                self._recent.popitem(last=False)

    def _look_at(self, picture: _Picture) -> Found | None:
        """The file, where it has to be prepared."""
        entry = judge(self._path.parent, "", self._path.parent / picture.path)
        if isinstance(entry, Left):
            picture.outcome = entry
            return None
        try:
            picture.sha256 = file_sha256(entry.path)
        except OSError as error:
            picture.outcome = Left(entry.path, "unreadable", str(error))
            return None
        with self._store.reading() as session:
            if image_of_file(session, picture.sha256):
                return None
        picture.under_way = True
        return entry

    def _settle_rows(self) -> int:
        """Make the pairs of the rows whose turn it is; returns how many rows that were."""
        count = 0
        while self._rows and not any(picture.under_way for picture in self._rows[0][1:]):
            row, gt, reference = self._rows.popleft()
            count += 1
            try:
                self._settle(row, gt, reference)
            except _RowLeft as left:
                detail = printable(left.detail)[:LONGEST_DETAIL]
                self._left.add(Left(row.place, left.reason, detail))
        return count

    def _settle(self, row: Row, *pictures: _Picture) -> None:
        for picture in pictures:
            if isinstance(picture.outcome, Left):
                _leave(picture, picture.outcome)
        if len({picture.sha256 for picture in pictures}) < len(pictures):
            raise _RowLeft("duplicate", "gt and reference are copies of one file")
        with self._store.reading() as session:
            stored = [image_of_file(session, picture.sha256) for picture in pictures]
            identity = self._person(session, row, [image for image in stored if image])
            if _pair_exists(session, *stored):
                self._known_pairs += 1
                return
        others = siblings(self._store, identity.id) if identity else []
        images: list[Image] = []
        for picture, image in zip(pictures, stored, strict=True):
            images.append(image or self._admit(picture, others))
            others.append(sibling(images[-1]))
        self._write(row, images, identity)
        for picture in pictures:
            picture.outcome = None  # it is in the store now: its bytes need not be kept

    def _admit(self, picture: _Picture, others: list[Sibling]) -> Image:
        assert isinstance(picture.outcome, Ready)  # noqa: S101
        image = admit(self._store, picture.outcome, others)
        if isinstance(image, Left):
            picture.outcome = image
            _leave(picture, image)
        return image

    def _person(self, session: Session, row: Row, images: list[Image]) -> Identity | None:
        """The identity that the row is about, or None for a new one."""
        owners = {image.identity_id for image in images}
        named = identity_of(session, self._source, row.identity) if row.identity else None
        if row.identity and owners and owners != {named.id if named else None}:
            other = session.get_one(Identity, min(owners - {named.id if named else None}))
            raise _RowLeft(
                "two_identities",
                f"a picture is one of {other.source}/{other.name} already: leave the identity empty "
                "to use it as that",
            )
        if len(owners) > 1:
            names = sorted(session.get_one(Identity, owner).name for owner in owners)
            raise _RowLeft(
                "two_identities",
                f"the pictures are of {names[0]} and of {names[1]}: name the identity in each row",
            )
        person = session.get_one(Identity, owners.pop()) if owners else named
        if person and row.split and row.split != person.split:
            raise _RowLeft(
                "split_differs", f"{person.name} is in split {person.split}, not in {row.split}"
            )
        return person

    def _write(self, row: Row, images: list[Image], identity: Identity | None) -> None:
        settings = self._settings
        new = [image for image in images if image.id is None]
        with self._store.writing() as session:
            if identity is None:
                name = row.identity or printable(row.gt)[:LONGEST_NAME]
                if forgotten(session, self._source, [name]):
                    raise _RowLeft(FORGOTTEN, forgotten_detail(name))
                identity = add_identities(
                    session,
                    [name],
                    settings.seed,
                    self._source,
                    settings.licence,
                    consent=settings.consent,
                    split=row.split,
                )[name]
            for image in new:
                image.identity_id = identity.id
                session.add(image)
            session.flush()
            gt, reference = images
            made = add_pair(session, gt, reference, settings.seed)
        self._report.added += len(new)
        self._report.pairs += made is not None


def _leave(picture: _Picture, left: Left) -> NoReturn:
    raise _RowLeft(left.reason, f"{picture.path}: {left.detail}")


def _pair_exists(session: Session, gt: Image | None, reference: Image | None) -> bool:
    if gt is None or reference is None:
        return False
    query = select(Pair.id).where(Pair.gt_id == gt.id, Pair.ref_id == reference.id)
    return session.scalar(query) is not None
