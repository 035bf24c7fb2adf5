"""Signed statements: a session, a sign-in link, and the token that a page must send with a change."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from dataclasses import dataclass
from datetime import datetime, timedelta

SESSION_DAYS = timedelta(days=14)
LINK_DAYS = timedelta(days=14)
NAME = re.compile(r"[^\W_][\w .@+-]{0,59}")
"""What a reviewer may be called: it is kept with every decision and shown on pages."""


class UnfitNameError(ValueError):
    """A name that cannot stand beside a decision."""


def checked_name(name: str) -> str:
    """A reviewer's name without white space around it.

    Raises:
        UnfitNameError: it is empty, too long, or has other characters than letters, digits and . @ + -.
    """
    name = " ".join(name.split())
    if not NAME.fullmatch(name):
        raise UnfitNameError(
            "a name begins with a letter or a digit and has at most 60 letters, digits, spaces "
            "and . @ + - _"
        )
    return name


@dataclass(frozen=True)
class Signer:
    """Makes and reads signed statements; a change of either secret makes all of them worthless.

    Attributes:
        secret: signs.
        password: the shared password, so that a new one ends the sessions that the old one opened.
    """

    secret: str
    password: str

    def __repr__(self) -> str:
        return "Signer()"

    def session(self, name: str, at: datetime) -> str:
        """What the cookie of a signed-in reviewer holds."""
        return self._sign("session", name, at + SESSION_DAYS)

    def session_name(self, session: str, at: datetime) -> str | None:
        """Whose session it is, or None when it is no good or over."""
        return self._read("session", session, at)

    def link(self, name: str, at: datetime, lasts: timedelta = LINK_DAYS) -> str:
        """The secret part of a link that signs one person in."""
        return self._sign("link", checked_name(name), at + lasts)

    def link_name(self, link: str, at: datetime) -> str | None:
        """Whom a link signs in, or None when it is no good or over."""
        return self._read("link", link, at)

    def page_token(self, session: str) -> str:
        """What a page of this session sends along with a change: other sites' pages cannot know it."""
        return _text(self._mac("page", session.encode()))

    def password_matches(self, given: str) -> bool:
        """Compare in constant time."""
        return hmac.compare_digest(given.encode(), self.password.encode())

    def page_token_matches(self, session: str, given: str) -> bool:
        """Compare in constant time."""
        return hmac.compare_digest(given.encode(), self.page_token(session).encode())

    def _mac(self, purpose: str, body: bytes) -> bytes:
        key = hmac.digest(self.secret.encode(), self.password.encode(), hashlib.sha256)
        return hmac.digest(key, purpose.encode() + b"\0" + body, hashlib.sha256)

    def _sign(self, purpose: str, name: str, until: datetime) -> str:
        body = json.dumps([name, int(until.timestamp())]).encode()
        return f"{_text(body)}.{_text(self._mac(purpose, body))}"

    def _read(self, purpose: str, signed: str, at: datetime) -> str | None:
        body_text, _, mac_text = signed.partition(".")
        try:
            body, mac = _bytes(body_text), _bytes(mac_text)
        except ValueError:
            return None
        if not hmac.compare_digest(mac, self._mac(purpose, body)):
            return None
        name, until = json.loads(body)
        return str(name) if at.timestamp() < until else None


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text.encode() + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
