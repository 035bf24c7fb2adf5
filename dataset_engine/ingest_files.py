"""The image files of a source: which there are, whose they are, and which cannot even be opened."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dataset_engine.faces.decode import SUFFIXES
from dataset_engine.faces.sidecar import is_sidecar


@dataclass(frozen=True)
class Found:
    """An image file of an identity; ``name`` is its path inside the ingested folder."""

    identity: str
    path: Path
    name: str


@dataclass(frozen=True)
class Left:
    """What is set aside: a code for counting, and a sentence for people.

    ``path`` is a file, or a place inside one, such as ``pairs.csv:7`` for the seventh line.
    """

    path: Path
    reason: str
    detail: str

    @property
    def file(self) -> str:
        """The path as text that any file or terminal takes."""
        return printable(self.path)


def printable(path: Path | str) -> str:
    """A path as text, with escapes for bytes that are not UTF-8 and for control characters."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def identity_folders(root: Path) -> list[str]:
    """The names of the folders of CelebRef-HQ's layout, ``FOLDER/IDENTITY/IMAGE``, sorted."""
    return sorted(path.name for path in root.iterdir() if path.name[0] != "." and path.is_dir())


def images_below(folder: Path) -> Iterator[Path]:
    """All image files below a folder, in order; sidecars and hidden files are passed over.

    Only one folder's names are held at a time.
    """
    try:
        with os.scandir(folder) as listing:
            entries = sorted(
                (entry.name, entry.is_dir(follow_symlinks=False))
                for entry in listing
                if not entry.name.startswith(".")
            )
    except OSError:  # no permission, or gone meanwhile: set aside under the folder's own name
        yield folder
        return
    for name, is_folder in entries:
        path = folder / name
        if is_folder:
            yield from images_below(path)
        elif is_image(path):
            yield path


def is_image(path: Path) -> bool:
    """Whether a file's name is that of an image and not of a sidecar or a hidden file."""
    return (
        path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and not is_sidecar(path)
    )


def judge(root: Path, identity: str, path: Path) -> Found | Left:
    """An image of an identity, or why it cannot be one.

    Args:
        root: the resolved folder of the source; a file outside it is set aside.
        identity: whose image it is.
        path: the file, inside the folder by its name.
    """
    try:
        os.fsencode(path).decode()
        if not path.resolve().is_relative_to(root):
            return Left(path, "outside_folder", "a link or a path that leads out of the folder")
        if not path.is_file():
            return Left(
                path, "unreadable", "no file, a link to nothing, or a folder that is closed"
            )
    except UnicodeDecodeError:
        return Left(path, "unreadable", "its path is not UTF-8: rename it")
    except (OSError, RuntimeError) as error:  # no permission, or links that lead in a circle
        return Left(path, "unreadable", str(error))
    return Found(identity, path, path.relative_to(root).as_posix())
