"""`engine ingest`: identity folders in; aligned images, face regions and pairs out.

The layout is CelebRef-HQ's: ``FOLDER/IDENTITY/IMAGE``. Nothing in the folder is changed. A file that
cannot be used is set aside with its reason and never stops the run; a second run adds only what is
new.
"""

from __future__ import annotations

import csv
import hashlib
import io
import multiprocessing
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import delete, select

from dataset_engine.faces.analyser import FaceAnalyser, MediapipeAnalyser
from dataset_engine.faces.decode import SUFFIXES
from dataset_engine.faces.prepare import PrepareSettings, SetAside, prepare_image
from dataset_engine.faces.quality import hamming
from dataset_engine.faces.sidecar import is_sidecar
from dataset_engine.progress import Advance, silent
from dataset_engine.same_picture import NEAR_DUPLICATE_BITS, same_picture
from dataset_engine.settings import Settings
from dataset_engine.shards.images import decode_rgb
from dataset_engine.store import Store
from dataset_engine.store.blobs import encode_jpeg, encode_mask_png, write_atomically
from dataset_engine.store.pairs import add_identities, add_pairs
from dataset_engine.store.tables import Image, SetAsideFile

IN_PROCESS = 8
"""Up to this many files are prepared without starting other processes."""
BATCH = 64


@dataclass(frozen=True)
class Found:
    """An image file of an identity; ``name`` is its path inside the ingested folder."""

    identity: str
    path: Path
    name: str


@dataclass(frozen=True)
class Ready:
    """An image that can be stored.

    Attributes:
        jpeg: the aligned image.
        region_png: its face region.
    """

    found: Found
    source_sha256: str
    jpeg: bytes
    region_png: bytes
    phash: str
    sharpness: float
    five_points: list[list[float]]


@dataclass(frozen=True)
class Left:
    """A file that is set aside: a code for counting, and a sentence for people."""

    path: Path
    reason: str
    detail: str


@dataclass
class IngestReport:
    """What an ingest did.

    Attributes:
        added: new images.
        known: images that were in the store already.
        pairs: new pairs.
        left: files set aside in this run.
        report: CSV file with a line for each of them.
    """

    added: int = 0
    known: int = 0
    pairs: int = 0
    left: list[Left] = field(default_factory=list)
    report: Path | None = None

    @property
    def reasons(self) -> dict[str, int]:
        """How many files were set aside for each reason."""
        return dict(Counter(left.reason for left in self.left))


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

    Args:
        store: the store.
        settings: seed, licence and parser weights are read from it.
        folder: holds a folder for each identity.
        pairs_per_identity: at most this many ordered pairs are made of one identity's images.
        prepare: limits on images; the defaults suit photographs of a few hundred pixels and more.
        workers: processes that align and analyse; as many as there are cores otherwise.
        progress: called with the number of files done and the number of all files.

    Raises:
        NotADirectoryError: the folder is not there, or holds no identity folder.
    """
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is not a folder: give one with a folder per identity")
    prepare = prepare or PrepareSettings(parser_weights=settings.parser_weights)
    report = IngestReport()
    found: list[Found] = []
    for entry in find_images(folder):
        if isinstance(entry, Left):
            report.left.append(entry)
        else:
            found.append(entry)
    if not found and not report.left:
        raise NotADirectoryError(f"{folder} holds no images in identity folders (IDENTITY/IMAGE)")
    with store.writing() as session:
        identities = {
            name: identity.id
            for name, identity in add_identities(
                session, {f.identity for f in found}, settings.seed, folder.name, settings.licence
            ).items()
        }
    keeper = _Keeper(store, identities, report)
    total = len(found)
    fresh = [f for f in found if not keeper.knows(f)]
    report.known = total - len(fresh)
    progress(report.known, total)
    for done, result in enumerate(_prepared(fresh, prepare, workers), start=report.known + 1):
        keeper.take(result)
        progress(done, total)
    keeper.flush()
    with store.writing() as session:
        for identity_id in sorted(identities.values()):
            report.pairs += add_pairs(session, identity_id, settings.seed, pairs_per_identity)
    _write_report(store, folder, report)
    return report


def find_images(folder: Path) -> Iterator[Found | Left]:
    """All image files of all identities, in order; sidecars and hidden files are passed over."""
    root = folder.resolve()
    for identity in sorted(p for p in folder.iterdir() if p.is_dir() and p.name[0] != "."):
        for path in sorted(identity.rglob("*")):
            name = path.name.lower()
            if path.suffix.lower() not in SUFFIXES or name[0] == ".":
                continue
            if is_sidecar(path):
                continue
            if not path.resolve().is_relative_to(root):
                yield Left(path, "outside_folder", "a link that leads out of the folder")
            elif not path.is_file():
                yield Left(path, "unreadable", "not a file, or a link to nothing")
            else:
                yield Found(identity.name, path, path.relative_to(folder).as_posix())


def prepare_file(found: Found, prepare: PrepareSettings) -> Ready | Left:
    """Align one file and find its face region; never raises for what is wrong with the file."""
    try:
        source_sha256 = _sha256(found.path)
        image = prepare_image(found.path, _analyser(), prepare)
    except SetAside as error:
        return Left(found.path, str(error.reason), error.detail)
    except OSError as error:
        return Left(found.path, "unreadable", str(error))
    return Ready(
        found=found,
        source_sha256=source_sha256,
        jpeg=encode_jpeg(image.image),
        region_png=encode_mask_png(image.region),
        phash=image.phash,
        sharpness=image.sharpness,
        five_points=image.five_points.astype(float).round(3).tolist(),
    )


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
            return (self._identities[found.identity], _sha256(found.path)) in self._known
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
            session.execute(
                delete(SetAsideFile).where(
                    SetAsideFile.path.in_([str(ready.found.path) for ready, _, _ in stored])
                )
            )
        self._unwritten.clear()
        self._report.added += len(stored)
        self._report.left.extend(left)


def _write_report(store: Store, folder: Path, report: IngestReport) -> None:
    with store.writing() as session:
        for left in report.left:
            path = str(left.path)[:1024]
            row = session.scalars(
                select(SetAsideFile).where(SetAsideFile.path == path)
            ).one_or_none() or SetAsideFile(path=path)
            row.reason, row.detail = left.reason, left.detail
            session.add(row)
    if report.left:
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(("file", "reason", "detail"))
        for left in report.left:
            writer.writerow((left.path.relative_to(folder), left.reason, left.detail))
        report.report = store.home / "reports" / "set-aside.csv"
        write_atomically(report.report, text.getvalue().encode())


def _prepared(
    found: Sequence[Found], prepare: PrepareSettings, workers: int | None
) -> Iterator[Ready | Left]:
    workers = workers or os.cpu_count() or 1
    if len(found) <= IN_PROCESS or workers == 1:
        for one in found:
            yield prepare_file(one, prepare)
        return
    # spawned, not forked: the face analyser's threads do not survive a fork
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        try:
            ahead = 4 * workers
            pending = [pool.submit(prepare_file, one, prepare) for one in found[:ahead]]
            for index in range(len(found)):
                yield pending[index % ahead].result()
                if index + ahead < len(found):
                    pending[index % ahead] = pool.submit(
                        prepare_file, found[index + ahead], prepare
                    )
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


@cache
def _analyser() -> FaceAnalyser:
    # one a process: loading the detector costs more than using it
    return MediapipeAnalyser()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
