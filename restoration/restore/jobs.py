"""Which files are restored with which references, by where they lie and by their names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
BESIDE: Final = (".region.png",)
"""Endings of files that belong to an image and are none of their own."""


@dataclass(frozen=True)
class Job:
    """One picture and the references of its person."""

    name: str
    path: Path
    references: tuple[Path, ...]


@dataclass(frozen=True)
class LeftOut:
    """A file that is set aside: a code for counting, and a sentence for people."""

    path: Path
    reason: str
    detail: str


def find_jobs(lq: Path, references: Sequence[Path]) -> tuple[list[Job], list[LeftOut]]:
    """Match degraded pictures with references.

    References that are files, and the folder of references of a single picture, are of one person, and
    serve every picture. Where pictures and references are folders, names tell who is who: for `anna.jpg`
    there is `anna.png`, or a folder `anna` of several.

    Args:
        lq: a picture, or a folder of them.
        references: files, or one folder.

    Returns:
        the jobs in the order of their names, and what has no counterpart.

    Raises:
        FileNotFoundError: something is not there, or a folder has no pictures.
    """
    for path in (lq, *references):
        if not path.exists():
            raise FileNotFoundError(f"{path} is not there: give a picture or a folder of them")
    pictures = _pictures(lq) if lq.is_dir() else [lq]
    if not pictures:
        raise FileNotFoundError(f"{lq} has no pictures: give a folder of {_known()}")
    left: list[LeftOut] = []
    pictures = _named_once(pictures, left)
    folders = [path for path in references if path.is_dir()]
    if lq.is_dir() and folders:
        if len(references) > 1:
            raise FileNotFoundError("give one folder of references, or any number of files")
        return _by_name(pictures, folders[0], left), left
    found: list[Path] = []
    for path in references:
        found += _pictures(path) if path.is_dir() else [path]
    if not found:
        raise FileNotFoundError(f"{references[0]} has no pictures: give {_known()}")
    return [Job(path.stem, path, tuple(found)) for path in pictures], left


def _by_name(pictures: list[Path], folder: Path, left: list[LeftOut]) -> list[Job]:
    known: dict[str, list[Path]] = {}
    for path in _pictures(folder):
        known.setdefault(path.stem, []).append(path)
    for path in sorted(one for one in folder.iterdir() if one.is_dir()):
        known.setdefault(path.name, []).extend(_pictures(path))
    jobs = []
    for path in pictures:
        references = known.pop(path.stem, [])
        if references:
            jobs.append(Job(path.stem, path, tuple(references)))
        else:
            detail = f"{folder} has neither a picture nor a folder of pictures of this name"
            left.append(LeftOut(path, "no_reference", detail))
    for references in known.values():
        left += [
            LeftOut(path, "no_input", "there is no picture of this name to restore")
            for path in references
        ]
    return jobs


def _named_once(pictures: list[Path], left: list[LeftOut]) -> list[Path]:
    """What is written is named by the stem, so that two files of one stem would overwrite each other."""
    chosen: dict[str, Path] = {}
    for path in pictures:
        if path.stem in chosen:
            detail = f"{chosen[path.stem].name} has the same name; rename one of them"
            left.append(LeftOut(path, "same_name", detail))
        else:
            chosen[path.stem] = path
    return list(chosen.values())


def _pictures(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES
        and not path.name.startswith(".")
        and not path.name.endswith(BESIDE)
        and not path.is_dir()
    )


def _known() -> str:
    return ", ".join(sorted(SUFFIXES))
