"""Who may ask the pre-annotation service: on any address but loopback, a name and a password go along.

These are what Label Studio sends with every call to an ML backend once it was told them (HTTP Basic).
Its webhook has a secret header instead, and people who review sign in.
"""

from __future__ import annotations

import base64
import hmac
from dataclasses import dataclass, field

from fastapi import HTTPException, Request

from annotator.review.address import is_loopback
from annotator.secrets import SERVICE_USER


@dataclass(frozen=True)
class BackendAccess:
    """The rule of one service.

    Attributes:
        password: what Label Studio sends.
        open_here: whether only this machine can reach the service, so that nothing has to be sent.
    """

    password: str = field(repr=False)
    open_here: bool

    def may_ask(self, request: Request) -> None:
        """Let through who knows the password.

        Raises:
            HTTPException: 401.
        """
        if self.open_here:
            return
        wanted = "Basic " + base64.b64encode(f"{SERVICE_USER}:{self.password}".encode()).decode()
        given = request.headers.get("authorization", "")
        if not hmac.compare_digest(given.encode(), wanted.encode()):
            raise HTTPException(
                401,
                "this service answers its Label Studio only: `engine annotate` tells that one the "
                "password",
                headers={"WWW-Authenticate": 'Basic realm="refstar"'},
            )

    def may_ask_for_health(self, request: Request) -> None:
        """Let through what `may_ask` does, and any process of this very machine.

        Raises:
            HTTPException: 401.
        """
        if request.client is None or not is_loopback(request.client.host):
            self.may_ask(request)


LOOPBACK = BackendAccess("", open_here=True)
