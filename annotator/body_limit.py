"""A bound on request bodies, kept before any of a body is parsed; and their text has to be text."""

from __future__ import annotations

import json
import logging
import re

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class BodyLimit:
    """ASGI middleware that answers 413 to a body of more than ``limit`` bytes, 400 to broken text.

    Bytes are counted as they arrive: a declared length can lie, and may be absent.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the body up to the limit, then hand it on whole."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return
            body += message.get("body", b"")
            if len(body) > self._limit:
                log.warning("refused a body of over %d bytes on %s", self._limit, scope["path"])
                answer = JSONResponse(
                    {"detail": f"the body is larger than {self._limit} bytes"}, status_code=413
                )
                await answer(scope, receive, send)
                return
            if not message.get("more_body", False):
                break
        if _has_broken_text(body):
            answer = JSONResponse(
                {"detail": "the body holds halves of characters"}, status_code=400
            )
            await answer(scope, receive, send)
            return
        handed_on = False

        async def replay() -> Message:
            nonlocal handed_on
            if handed_on:
                return await receive()
            handed_on = True
            return {"type": "http.request", "body": bytes(body), "more_body": False}

        await self._app(scope, replay, send)


def _has_broken_text(body: bytearray) -> bool:
    """Whether JSON holds half a character (a lone surrogate): no answer and no database can hold it."""
    if _SURROGATE.search(body) is None:
        return False
    try:
        json.dumps(json.loads(body), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    except (ValueError, RecursionError):
        return False  # no JSON: that is said further on
    return False
