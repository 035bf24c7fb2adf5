"""What a backup looks like: a tar of the database, all images and masks, the models, and a manifest."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

FORMAT = 1
DATABASE, MANIFEST = "database.sqlite", "manifest.json"
IMAGES, MASKS, MODELS = "images", "masks", "models"


class BackupError(RuntimeError):
    """An archive or a home that cannot be used; the message says the cause and the mend."""


@dataclass
class BackupReport:
    """What an archive holds, or what was taken out of it.

    Attributes:
        path: the archive.
        rows: of all tables.
        images, masks, models: files of each kind.
        size: bytes of the archive.
        missing: files that the database names and that are not there, as kind/hash.
    """

    path: Path
    rows: int = 0
    images: int = 0
    masks: int = 0
    models: int = 0
    size: int = 0
    missing: list[str] = field(default_factory=list)
