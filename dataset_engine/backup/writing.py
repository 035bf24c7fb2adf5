"""Making a backup while annotators work.

The database is read as of one moment. Images and masks are never changed once they are there, so those
that are copied after that moment hold all that it names. Not in a backup: secrets, Label Studio's own
data (its annotations are in the database as events), runs and exports, which can be made again.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from dataset_engine.backup.archive import (
    DATABASE,
    FORMAT,
    IMAGES,
    MANIFEST,
    MASKS,
    MODELS,
    BackupReport,
)
from dataset_engine.backup.reading import verify_backup
from dataset_engine.progress import Advance, silent
from dataset_engine.shards.files import file_sha256, sync_file, sync_folder
from dataset_engine.store import Store
from dataset_engine.store.blobs import Blobs
from dataset_engine.store.copying import copy_tables
from dataset_engine.store.database import fold_log, open_engine, upgrade

TRAINING_STATE = "training.pt"


def back_up(store: Store, path: Path, progress: Advance = silent) -> BackupReport:
    """Write an archive, whole or not at all, and read it back to see that it is sound.

    A file that the database names and that is missing from the home does not stop the backup; it is
    named in the report.

    Args:
        store: the store; others may go on working with it.
        path: the archive to write, a tar; a file that is there already is replaced at the end.
        progress: told how many files are archived, and of how many.
    """
    report = BackupReport(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=path.parent)
    os.close(descriptor)
    unfinished = Path(name)
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".backup-") as scratch:
            snapshot = Path(scratch) / DATABASE
            tables = _snapshot(store.engine, snapshot)
            report.rows = sum(table["rows"] for table in tables.values())
            with tarfile.open(unfinished, "w", format=tarfile.PAX_FORMAT) as tar:
                tar.add(snapshot, DATABASE, filter=_plain_member)
                _add_blobs(tar, store, report, progress)
                models = _add_models(tar, store.home)
                report.models = len(models)
                manifest: dict[str, Any] = {
                    "format": FORMAT,
                    "tables": tables,
                    "database_sha256": file_sha256(snapshot),
                    "images": report.images,
                    "masks": report.masks,
                    "models": models,
                }
                _add_bytes(tar, MANIFEST, json.dumps(manifest, indent=2).encode())
        sync_file(unfinished)
        checked = verify_backup(unfinished)
        report.missing, report.size = checked.missing, checked.size
        unfinished.replace(path)
        sync_folder(path.parent)
    finally:
        unfinished.unlink(missing_ok=True)
    return report


def _snapshot(engine: Engine, path: Path) -> dict[str, dict[str, Any]]:
    url = f"sqlite:///{path}"
    upgrade(url)
    target = open_engine(url)
    try:
        tables = copy_tables(engine, target)
    finally:
        target.dispose()
    fold_log(path)
    return {name: asdict(digest) for name, digest in tables.items()}


def _add_blobs(tar: tarfile.TarFile, store: Store, report: BackupReport, progress: Advance) -> None:
    kinds = ((IMAGES, store.images), (MASKS, store.masks))
    total = sum(1 for _, blobs in kinds for _ in _blob_files(blobs))
    for kind, blobs in kinds:
        count = 0
        for file in _blob_files(blobs):
            tar.add(file, f"{kind}/{file.name}", filter=_plain_member)
            count += 1
            progress(report.images + report.masks + count, max(total, count))
        setattr(report, kind, count)


def _blob_files(blobs: Blobs) -> Iterator[Path]:
    """Finished files of a kind, in order; one folder's names are held at a time."""
    for folder in sorted(blobs.root.glob("??")):
        yield from sorted(path for path in folder.glob(f"*{blobs.suffix}") if path.name[0] != ".")


def _add_models(tar: tarfile.TarFile, home: Path) -> dict[str, str]:
    """Add the rounds' models, not the state of a training; gives each file's SHA-256 by name."""
    folder = home / MODELS
    added = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name[0] != "." and path.name != TRAINING_STATE:
            name = path.relative_to(folder).as_posix()
            data = path.read_bytes()  # at once: a round that ends now replaces the file
            _add_bytes(tar, f"{MODELS}/{name}", data)
            added[name] = hashlib.sha256(data).hexdigest()
    return added


def _plain_member(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """A member says nothing of who made the backup, and only its owner may read it."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o600
    return member


def _add_bytes(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(_plain_member(member), io.BytesIO(data))
