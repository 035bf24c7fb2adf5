"""Degraded pictures with references and without ground truth, as in RealRef60.

The paper ("Testing Data") pairs a low-resolution picture with a high-resolution reference of the same
person. There is nothing that a mask could be reviewed against, so these are inputs for restoration only.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

from sqlalchemy import Select, select

from dataset_engine.faces.prepare import PrepareSettings
from dataset_engine.ingest_files import Left, is_image, judge
from dataset_engine.preparing import InputFiles, ReadyInput, prepared_inputs
from dataset_engine.progress import Advance
from dataset_engine.shards.files import file_sha256
from dataset_engine.sources.source_ingest import (
    FORGOTTEN,
    Given,
    SourceIngest,
    forgotten_detail,
)
from dataset_engine.store.tables import RestorationInput

LQ_NAMES = ("lq",)
REFERENCE_NAMES = ("ref", "reference")


def find_folders(root: Path) -> tuple[Path, Path] | None:
    """The folders of degraded pictures and of references, by their names in any case, or None."""
    folders = {path.name.lower(): path for path in sorted(root.iterdir()) if path.is_dir()}
    lq = next((folders[name] for name in LQ_NAMES if name in folders), None)
    reference = next((folders[name] for name in REFERENCE_NAMES if name in folders), None)
    return (lq, reference) if lq and reference else None


class RestorationInputs(SourceIngest):
    """One ingest of restoration inputs.

    Raises:
        NotADirectoryError: the folder does not hold the two folders.
    """

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        folders = find_folders(given.root)
        if folders is None:
            raise NotADirectoryError(
                f"{given.root} does not hold the folders LQ and ref (or reference): put the degraded "
                "pictures into the one and their references, under the same names, into the other"
            )
        self._lq, self._reference = folders

    def take(self, prepare: PrepareSettings, workers: int | None, progress: Advance) -> None:
        """Take in every degraded picture that has a reference of the same name."""
        references = {path.stem: path for path in _images(self._reference)}
        pictures = _images(self._lq)
        removed = self._forgotten({path.stem[:255] for path in pictures})
        for path in pictures:
            if path.stem[:255] in removed:
                references.pop(path.stem, None)
                self._left.add(Left(path, FORGOTTEN, forgotten_detail(path.stem)))
        pictures = [path for path in pictures if path.stem[:255] not in removed]
        steps = itertools.count(1)

        def step() -> None:
            progress(next(steps), len(pictures))

        as_they_were = 0
        fresh = self._fresh(pictures, references, step)
        for result in prepared_inputs(fresh, prepare, workers):
            if isinstance(result, Left):
                self._left.add(result)
            else:
                self._write(result)
                as_they_were += not result.aligned
            step()
        for path in references.values():  # those that no picture asked for
            self._left.add(Left(path, "no_input", f"{self._lq.name}/ has no picture of this name"))
        if as_they_were:
            self._report.notes.append(
                f"no face was found in {as_they_were} degraded pictures: they are taken as aligned "
                "already"
            )

    def _fresh(
        self, pictures: list[Path], references: dict[str, Path], step: Callable[[], None]
    ) -> Iterator[InputFiles]:
        """The inputs that the store does not have yet in this state."""
        for path in pictures:
            reference = references.pop(path.stem, None)
            if reference is None:
                detail = f"{self._reference.name}/ has no picture of this name"
                self._left.add(Left(path, "no_reference", detail))
                step()
                continue
            problem = next(
                (
                    entry
                    for entry in (judge(self._root, "", one) for one in (path, reference))
                    if isinstance(entry, Left)
                ),
                None,
            )
            if problem is not None:
                self._left.add(problem)
                step()
            elif self._knows(path, reference):
                self._report.known += 1
                step()
            else:
                yield InputFiles(path.stem[:255], path, reference)

    def _knows(self, path: Path, reference: Path) -> bool:
        with self._store.reading() as session:
            row = session.scalars(self._named(path.stem[:255])).one_or_none()
        if row is None:
            return False
        try:
            digests = file_sha256(path), file_sha256(reference)
        except OSError:
            return False
        return digests == (row.source_sha256, row.reference_source_sha256)

    def _named(self, name: str) -> Select[RestorationInput]:
        return select(RestorationInput).where(
            RestorationInput.source == self._source, RestorationInput.name == name
        )

    def _write(self, ready: ReadyInput) -> None:
        """Add an input, or replace the one of the same name whose files were others."""
        name, reference = ready.files.name, ready.reference
        lq_sha256 = self._store.images.put(ready.lq)
        reference_sha256 = self._store.images.put(reference.jpeg)
        region_sha256 = self._store.masks.put(reference.region_png)
        with self._store.writing() as session:
            row = session.scalars(self._named(name)).one_or_none()
            if row is None:
                row = RestorationInput(source=self._source, name=name)
                row.licence = self._settings.licence
                row.consent = self._settings.consent
                session.add(row)
            row.source_sha256 = ready.source_sha256
            row.reference_source_sha256 = reference.source_sha256
            row.lq_sha256 = lq_sha256
            row.reference_sha256 = reference_sha256
            row.region_sha256 = region_sha256
            row.lq_aligned = ready.aligned
        self._report.inputs += 1


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if is_image(path))
