"""The image files of a source: which there are, whose they are, and which cannot even be opened.

The layout is CelebRef-HQ's: ``FOLDER/IDENTITY/IMAGE``.
"""

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
    """A file that is set aside: a code for counting, and a sentence for people."""

    path: Path
    reason: str
    detail: str

    @property
    def file(self) -> str:
        """The path as text that any file or terminal takes."""
        return printable(self.path)


def printable(path: Path) -> str:
    """A path as text, with escapes for bytes that are not UTF-8 and for control characters."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def find_images(folder: Path) -> Iterator[Found | Left]:
    """All image files of all identities, in order; sidecars and hidden files are passed over.

    Paths are absolute and the same however the folder was spelled.
    """
    root = folder.resolve()
    for identity in sorted(p for p in root.iterdir() if p.is_dir() and p.name[0] != "."):
        for path in sorted(identity.rglob("*")):
            if path.suffix.lower() not in SUFFIXES or path.name[0] == "." or is_sidecar(path):
                continue
            yield _judge(root, identity.name, path)


def _judge(root: Path, identity: str, path: Path) -> Found | Left:
    try:
        os.fsencode(path).decode()
        if not path.resolve().is_relative_to(root):
            return Left(path, "outside_folder", "a link that leads out of the folder")
        if not path.is_file():
            return Left(path, "unreadable", "not a file, or a link to nothing")
    except UnicodeDecodeError:
        return Left(path, "unreadable", "its path is not UTF-8: rename it")
    except (OSError, RuntimeError) as error:  # no permission, or links that lead in a circle
        return Left(path, "unreadable", str(error))
    return Found(identity, path, path.relative_to(root).as_posix())
