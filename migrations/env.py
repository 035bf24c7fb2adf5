"""Alembic's environment: runs revisions on the URL that the caller gives."""

from __future__ import annotations

from alembic import context
from sqlalchemy import func, select

from dataset_engine.settings import Settings
from dataset_engine.store.database import open_engine
from dataset_engine.store.tables import Base

UPGRADING = 7_382_783_726_554_452_290
"""The lock that an upgrade holds on PostgreSQL; any number that nobody else takes will do."""


def run() -> None:
    """Run the asked revisions, all in one transaction: whoever is killed in it changed nothing."""
    url = context.config.attributes.get("url") or Settings().resolved_database_url
    engine = open_engine(url).execution_options(refstar_write=True)
    with engine.connect() as connection:
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            render_as_batch=connection.dialect.name == "sqlite",
            transactional_ddl=True,  # SQLite's is, too: the engine's BEGIN comes before the first one
        )
        with context.begin_transaction():
            if connection.dialect.name == "postgresql":
                # two processes that start at once would both upgrade; SQLite has one writer anyway
                connection.execute(select(func.pg_advisory_xact_lock(UPGRADING)))
            context.run_migrations()
    engine.dispose()


run()
