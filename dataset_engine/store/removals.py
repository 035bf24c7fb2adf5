"""The record of who was removed, which does not say who that was.

A digest of salt and name can be asked for a name that one has, and does not give a name away.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from dataset_engine.store.tables import Removal, now


class NobodyForgottenError(LookupError):
    """Nobody of this name was removed."""


def new_removal(source: str, name: str) -> Removal:
    """The record of a removal that begins now."""
    salt = secrets.token_hex(16)
    return Removal(salt=salt, digest=_digest(salt, f"{source}/{name}"), files=[], tasks=[])


def removals_of(session: Session, called: str) -> Sequence[Removal]:
    """The removals of whoever is called so, as SOURCE/NAME; the newest comes first."""
    every = session.scalars(select(Removal).order_by(Removal.id.desc()))
    return [removal for removal in every if removal.digest == _digest(removal.salt, called)]


def forgotten(session: Session, source: str, names: Iterable[str]) -> set[str]:
    """Which names of a source are of people who were removed, and not let back since."""
    rows = select(Removal.salt, Removal.digest).where(Removal.let_back_at.is_(None))
    kept = session.execute(rows).all()
    return {
        name
        for name in (names if kept else ())
        if any(digest == _digest(salt, f"{source}/{name}") for salt, digest in kept)
    }


def let_back(session: Session, source: str, names: Iterable[str]) -> None:
    """Allow people in again who were removed; the record of their removal stays.

    Raises:
        NobodyForgottenError: nobody of a name was removed from this source.
    """
    for name in names:
        found = removals_of(session, f"{source}/{name}")
        if not found:
            raise NobodyForgottenError(
                f"nobody called {name!r} was removed from {source}: leave --again {name} out"
            )
        for removal in found:
            removal.let_back_at = removal.let_back_at or now()


def _digest(salt: str, called: str) -> str:
    return hashlib.sha256(f"{salt}:{called}".encode()).hexdigest()
