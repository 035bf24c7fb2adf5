"""Alembic's environment: runs revisions on the URL that the caller gives."""

from __future__ import annotations

from alembic import context

from dataset_engine.settings import Settings
from dataset_engine.store.database import open_engine
from dataset_engine.store.tables import Base


def run() -> None:
    """Run the asked revisions, each in one transaction."""
    url = context.config.attributes.get("url") or Settings().resolved_database_url
    engine = open_engine(url).execution_options(refstar_write=True)
    with engine.connect() as connection:
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            render_as_batch=connection.dialect.name == "sqlite",
            transaction_per_migration=True,
        )
        with context.begin_transaction():
            context.run_migrations()
    engine.dispose()


run()
