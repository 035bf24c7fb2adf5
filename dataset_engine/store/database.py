"""Opening the engine's database: SQLite in WAL mode by default, any SQLAlchemy URL otherwise.

This module is the only one that opens sessions. Reading and writing are told apart, because a SQLite
transaction that begins by reading and then writes can fail although it would only have had to wait.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from numpy.typing import NDArray
from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.orm import Session, sessionmaker

import migrations
from dataset_engine.settings import Settings
from dataset_engine.store.blobs import Blobs, decode_mask_png, encode_mask_png

BUSY_TIMEOUT_MS = 30_000


class Store:
    """The database and the files of one home.

    Attributes:
        home: folder of all state.
        served: the only folder of the home that Label Studio may serve files from.
        images: aligned images, JPEG.
        masks: masks and face regions, 1-bit PNG.
        least_iou: IoU from which two people's masks count as the same answer.
        least_kappa: Cohen's kappa from which they do.
    """

    def __init__(self, settings: Settings) -> None:
        self.home = settings.home.absolute()
        # faces are personal data: a new home is its owner's alone
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.served = self.home / "images"
        self.images = Blobs(self.served / "aligned", ".jpg")
        self.masks = Blobs(self.home / "masks", ".png")
        self.least_iou = settings.agreement_iou
        self.least_kappa = settings.agreement_kappa
        self.url = settings.resolved_database_url
        upgrade(self.url)
        self.engine = open_engine(self.url)
        self._read = sessionmaker(self.engine, expire_on_commit=False)
        self._write = sessionmaker(
            self.engine.execution_options(refstar_write=True), expire_on_commit=False
        )

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session for reading; what it changes is thrown away."""
        with self._read() as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A session for writing: committed as a whole at the end, or not at all."""
        with self._write.begin() as session:
            yield session

    def put_mask(self, mask: NDArray[np.bool_]) -> str:
        """Store a mask, bool [H, W], and return its hash."""
        return self.masks.put(encode_mask_png(mask))

    def mask(self, sha256: str) -> NDArray[np.bool_]:
        """Read a stored mask as bool [H, W], its hash checked."""
        return decode_mask_png(self.masks.read(sha256))

    def scrub(self) -> bool:
        """See that the database's own files keep nothing of rows that were deleted.

        Returns:
            False where somebody else's reading holds old rows; then it can be tried again.
        """
        if self.engine.dialect.name == "postgresql":
            alone = self.engine.execution_options(isolation_level="AUTOCOMMIT")
            with alone.connect() as connection:
                connection.exec_driver_sql("VACUUM")
            return True
        with closing(sqlite3.connect(str(make_url(self.url).database))) as own:
            own.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
            busy, *_ = own.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return not busy

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_engine(url: str) -> Engine:
    """Open an engine; on SQLite with WAL, a busy timeout, foreign keys and explicit BEGINs.

    Raises:
        RuntimeError: the package that speaks to this kind of database is not installed.
    """
    if make_url(url).get_backend_name() != "sqlite":
        try:
            return create_engine(url, pool_pre_ping=True)
        except ModuleNotFoundError as error:
            raise RuntimeError(
                f"{make_url(url).drivername} needs the package {error.name}: install it "
                "(for PostgreSQL: `pip install 'refstar-engine[postgres]'`)"
            ) from error
    engine = create_engine(url)

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None  # this module begins transactions itself
        for pragma in (
            f"busy_timeout={BUSY_TIMEOUT_MS}",
            "journal_mode=WAL",
            "synchronous=FULL",  # an acknowledged review survives a power cut
            "foreign_keys=ON",
            "secure_delete=ON",  # a person who was removed is not in the free pages either
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        write = connection.get_execution_options().get("refstar_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


def fold_log(path: Path) -> None:
    """Fold SQLite's write-ahead log into its one file, so that the file alone is the database."""
    connection = sqlite3.connect(path)
    try:
        connection.execute("PRAGMA journal_mode=DELETE")
    finally:
        connection.close()


def alembic_config(url: str) -> Config:
    """Alembic's configuration for this database, without an ini file."""
    config = Config()
    # Alembic's options are templates, in which % is special
    location = str(Path(migrations.__file__).parent).replace("%", "%%")
    config.set_main_option("script_location", location)
    config.attributes["url"] = url
    return config


def upgrade(url: str, revision: str = "head") -> None:
    """Bring the database's schema up to a revision; a database that is there already stays as is.

    Raises:
        RuntimeError: the schema is of a revision that is unknown here.
    """
    config = alembic_config(url)
    script = ScriptDirectory.from_config(config)
    current = _revisions(url)
    # looked up first, because migrating takes the write lock even where there is nothing to do
    if current == {step.revision for step in script.get_revisions(revision)}:
        return
    if unknown := current - {step.revision for step in script.walk_revisions()}:
        shown = make_url(url).render_as_string()
        raise RuntimeError(
            f"the database {shown} has the schema {', '.join(unknown)}, which is unknown here: "
            "a newer engine made it, so use that one"
        )
    command.upgrade(config, revision)


def _revisions(url: str) -> set[str]:
    engine = open_engine(url)
    try:
        with engine.connect() as connection:
            return set(MigrationContext.configure(connection).get_current_heads())
    finally:
        engine.dispose()


def downgrade(url: str, revision: str) -> None:
    """Take the database's schema back to a revision."""
    command.downgrade(alembic_config(url), revision)
