"""Who may see pages and pictures, and whose changes are taken.

On loopback everybody on this machine may look, and a name is enough to decide; the Host header has to
be a loopback name then, since a foreign site may have its own name lead here. On any other address
people sign in first. A change has to come from a page of this very service: its Origin is checked, and
a token that only such a page can read goes with it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from fastapi import HTTPException, Request, Response

from annotator.review.address import is_loopback, only_here
from annotator.review.sign_in_limit import SignInLimit
from annotator.review.tokens import SESSION_DAYS, Signer
from dataset_engine.store.tables import now

COOKIE = "refstar_review"
TOKEN_HEADER = "X-Refstar-Page"  # noqa: S105 - the name of a header

log = logging.getLogger(__name__)


@dataclass
class Access:
    """The rules of one service.

    Attributes:
        signer: makes and reads sessions.
        host: address that the service binds to.
        url: how people reach it through a proxy, or None.
    """

    signer: Signer
    host: str
    url: str | None = None
    _limit: SignInLimit = field(default_factory=SignInLimit, repr=False)

    @property
    def open_here(self) -> bool:
        """Whether only people at this machine can reach the service, so that no sign-in is needed."""
        return only_here(self.host, self.url)

    def reviewer(self, request: Request) -> str | None:
        """The signed-in person's name, or None."""
        return self.signer.session_name(request.cookies.get(COOKIE, ""), now())

    def check_host(self, request: Request) -> None:
        """Refuse a foreign host name where no session protects the pages.

        Raises:
            HTTPException: 403.
        """
        name = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
        if self.open_here and not is_loopback(name):
            raise HTTPException(
                403,
                "this service is for this machine: open it at 127.0.0.1, or name the address of "
                "your proxy in REFSTAR_REVIEW_URL",
            )

    def may_look(self, request: Request) -> None:
        """Let through who may see pages and pictures.

        Raises:
            HTTPException: 401 without a session where one is needed, 403 under a foreign host name.
        """
        self.check_host(request)
        if not self.open_here and self.reviewer(request) is None:
            raise HTTPException(401, "sign in first")

    def may_change(self, request: Request) -> None:
        """Let through what a page of this service sends.

        Raises:
            HTTPException: 403 for a request of another site, or of a page of an earlier session.
        """
        self.check_host(request)
        origin = urlsplit(request.headers.get("origin", "")).netloc
        ours = urlsplit(self.url).netloc if self.url else request.headers.get("host", "")
        same_site = request.headers.get("sec-fetch-site", "same-origin") == "same-origin"
        if not origin or origin != ours or not same_site:
            raise HTTPException(403, "this is taken from the review pages only")
        session = request.cookies.get(COOKIE, "")
        if not self.signer.page_token_matches(session, request.headers.get(TOKEN_HEADER, "")):
            raise HTTPException(403, "this page is of an earlier session: load it again")

    def may_decide(self, request: Request) -> None:
        """Let through what a page of this service sends for somebody who is known by name.

        Raises:
            HTTPException: as `may_change`, and 401 where nobody has said who they are.
        """
        self.may_change(request)
        if self.reviewer(request) is None:
            raise HTTPException(401, "say who you are first")

    def begin(self, request: Request, response: Response, name: str) -> None:
        """Give the browser a session of this name."""
        response.set_cookie(
            COOKIE,
            self.signer.session(name, now()),
            max_age=int(SESSION_DAYS.total_seconds()),
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https" or (self.url or "").startswith("https:"),
        )

    def end(self, response: Response) -> None:
        """Take the session from the browser."""
        response.delete_cookie(COOKIE, httponly=True, samesite="strict")

    def page_token(self, request: Request) -> str:
        """The token for the pages of the request's session."""
        return self.signer.page_token(request.cookies.get(COOKIE, ""))

    def check_password(self, request: Request, given: str) -> bool:
        """Whether it is the shared password.

        Raises:
            HTTPException: 429 after too many wrong ones, since somebody may be guessing.
        """
        address = request.client.host if request.client else ""
        right = self._limit.check(address, lambda: self.signer.password_matches(given))
        if right is None:
            raise HTTPException(429, "too many wrong passwords: wait a minute")
        if not right:
            log.warning("a wrong review password was given")
        return right
