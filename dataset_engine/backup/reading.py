"""Reading a backup: checking every byte of it, and making a new home of it."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tarfile
import tempfile
from pathlib import Path
from typing import IO, Any

from sqlalchemy import make_url, select, union

from dataset_engine.backup.archive import (
    DATABASE,
    FORMAT,
    IMAGES,
    MANIFEST,
    MASKS,
    MODELS,
    BackupError,
    BackupReport,
)
from dataset_engine.progress import Advance, silent
from dataset_engine.settings import Settings
from dataset_engine.shards.files import file_sha256, sync_file, sync_folder
from dataset_engine.store.blobs import Blobs
from dataset_engine.store.copying import copy_tables
from dataset_engine.store.database import fold_log, open_engine, upgrade
from dataset_engine.store.named_files import IMAGE_COLUMNS, MASK_COLUMNS

LARGEST_MANIFEST = 64 * 2**20
MEGABYTE = 2**20


def verify_backup(path: Path, progress: Advance = silent) -> BackupReport:
    """Read an archive from end to end and check every byte of it.

    Args:
        path: the archive.
        progress: told how many MB are read, and of how many.

    Raises:
        BackupError: it is no archive, is cut off, or a part of it is damaged.
    """
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".verify-") as scratch:
        return _read(path, Path(scratch) / DATABASE, None, progress)


def restore_backup(path: Path, settings: Settings, progress: Advance = silent) -> BackupReport:
    """Make a new home of an archive; run again after a stop, it goes on.

    Args:
        path: what `back_up` wrote.
        settings: the home to fill, and the database to fill, SQLite or another.
        progress: told how many MB are read, and of how many.

    Raises:
        BackupError: the archive is damaged, or the home has a store already.
        CopyError: the database that `settings` names holds rows already.
    """
    home = settings.home.absolute()
    own_file = Path(str(make_url(settings.resolved_database_url).database))
    if settings.database_url is None and own_file.exists():
        raise BackupError(f"{home} holds a store already: give a new home to restore into")
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home, prefix=".restoring-") as scratch:
        snapshot = Path(scratch) / DATABASE
        report = _read(path, snapshot, home, progress)
        # The database comes last: a home without it is no store, so a stopped restore shows.
        if settings.database_url is None:
            fold_log(snapshot)
            sync_file(snapshot)
            snapshot.replace(own_file)
            sync_folder(home)
        else:
            upgrade(settings.database_url)
            source, target = open_engine(_url(snapshot)), open_engine(settings.database_url)
            try:
                copy_tables(source, target)
            finally:
                source.dispose()
                target.dispose()
    return report


class _Reader:
    """Walks an archive, checks each member, and keeps what is wanted of it.

    The database goes to `snapshot`; with `keep`, images, masks and models go into that home.
    """

    def __init__(self, path: Path, snapshot: Path, keep: Path | None) -> None:
        self.path, self.snapshot = path, snapshot
        self.images: set[str] = set()
        self.masks: set[str] = set()
        self.models: dict[str, str] = {}
        self.manifest: dict[str, Any] | None = None
        self._home = keep or snapshot.parent
        self._keep = keep is not None
        self._image_files = Blobs(self._home / "images" / "aligned", ".jpg")
        self._mask_files = Blobs(self._home / "masks", ".png")

    def walk(self, progress: Advance) -> None:
        try:
            size = self.path.stat().st_size
            with tarfile.open(self.path, "r:") as tar:
                for member in tar:
                    progress(member.offset_data // MEGABYTE, size // MEGABYTE)
                    file = tar.extractfile(member) if member.isreg() else None
                    if file is None or not self._take(member.name, file):
                        raise BackupError(
                            f"{self.path} holds {member.name!r}, which `engine backup` does not "
                            "write: do not restore it"
                        )
        except FileNotFoundError:
            raise BackupError(
                f"{self.path} is not there: name what `engine backup` wrote"
            ) from None
        except (tarfile.TarError, EOFError) as error:
            raise BackupError(
                f"{self.path} is no backup or is cut off ({error}): use another copy"
            ) from error

    def _take(self, member: str, file: IO[bytes]) -> bool:
        """Take a member of a name that is known; checked names cannot leave the home."""
        kind, _, name = member.partition("/")
        if kind == IMAGES and re.fullmatch(r"[0-9a-f]{64}\.jpg", name):
            self.images.add(self._take_blob(name, file.read(), self._image_files))
        elif kind == MASKS and re.fullmatch(r"[0-9a-f]{64}\.png", name):
            self.masks.add(self._take_blob(name, file.read(), self._mask_files))
        elif kind == MODELS and _is_plain(name):
            _write(file, self._home / MODELS / name)
            self.models[name] = file_sha256(self._home / MODELS / name)
        elif member == DATABASE:
            _write(file, self.snapshot)
        elif member == MANIFEST:
            self.manifest = _manifest(self.path, file.read(LARGEST_MANIFEST))
        else:
            return False
        return True

    def _take_blob(self, name: str, data: bytes, blobs: Blobs) -> str:
        sha256 = name.partition(".")[0]
        if hashlib.sha256(data).hexdigest() != sha256:
            raise BackupError(f"{self.path}: {name} is damaged; use another copy")
        if self._keep:
            blobs.put(data)
        return sha256


def _read(path: Path, snapshot: Path, keep: Path | None, progress: Advance) -> BackupReport:
    """Check an archive; with `keep`, put its images, masks and models into that home as well."""
    read = _Reader(path, snapshot, keep)
    read.walk(progress)
    if read.manifest is None or not snapshot.exists():
        raise BackupError(f"{path} is cut off: it ends before its manifest; use another copy")
    found = {
        "database_sha256": file_sha256(snapshot),
        "images": len(read.images),
        "masks": len(read.masks),
        "models": read.models,
    }
    if wrong := sorted(name for name, value in found.items() if read.manifest.get(name) != value):
        raise BackupError(
            f"{path}: {', '.join(wrong)} are not as its manifest says: use another copy"
        )
    return BackupReport(
        path,
        rows=sum(table["rows"] for table in read.manifest["tables"].values()),
        images=len(read.images),
        masks=len(read.masks),
        models=len(read.models),
        size=path.stat().st_size,
        missing=_missing(snapshot, read),
    )


def _missing(snapshot: Path, held: _Reader) -> list[str]:
    upgrade(_url(snapshot))  # an older engine's backup lacks columns that are asked for
    engine = open_engine(_url(snapshot))
    missing = []
    try:
        with engine.connect() as connection:
            for kind, columns, there in (
                (IMAGES, IMAGE_COLUMNS, held.images),
                (MASKS, MASK_COLUMNS, held.masks),
            ):
                named = union(*(select(column).where(column.is_not(None)) for column in columns))
                missing += sorted(
                    f"{kind}/{sha256}"
                    for sha256 in connection.scalars(named)
                    if sha256 not in there
                )
    finally:
        engine.dispose()
    return missing


def _is_plain(name: str) -> bool:
    return all(re.fullmatch(r"\w[\w.-]*", part) for part in name.split("/"))


def _write(file: IO[bytes], target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as out:
        shutil.copyfileobj(file, out)
    sync_file(target)


def _manifest(path: Path, data: bytes) -> dict[str, Any]:
    try:
        manifest = json.loads(data)
    except ValueError as error:
        raise BackupError(f"{path}: its manifest is damaged ({error}); use another copy") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise BackupError(f"{path} is a backup of another format than {FORMAT}: use that engine")
    return manifest


def _url(snapshot: Path) -> str:
    return f"sqlite:///{snapshot}"
