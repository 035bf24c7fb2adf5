"""The connection that Label Studio's SDK works over, with errors a person can act on."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

TIMEOUT = httpx.Timeout(60.0, connect=5.0)
"""Seconds; long enough for a batch import beside annotators who write."""


class LabelStudioError(RuntimeError):
    """Label Studio refused a request or answered nonsense."""


class LabelStudioUnavailable(LabelStudioError):  # noqa: N818 - a state of the world, and read as one
    """Label Studio cannot be reached, or does not answer in time."""


class Connection(httpx.Client):
    """Sends the SDK's requests to one Label Studio server.

    Failures become errors here, where the request is known, and before the SDK sees them: its own
    show the answer's headers instead of what was asked, and some it would take as a reason to send
    the request again.

    Args:
        url: base URL of the server.
        transport: replaces the network in tests.
    """

    def __init__(self, url: str, *, transport: httpx.BaseTransport | None = None) -> None:
        # A proxy for the outside world cannot reach a server on this machine.
        local = httpx.URL(url).host in ("127.0.0.1", "localhost", "::1")
        super().__init__(timeout=TIMEOUT, transport=transport, trust_env=not local)
        self._server = url

    def send(self, request: httpx.Request, **options: Any) -> httpx.Response:  # noqa: ANN401 - httpx's
        """Send a request and return the answer, which is a success, with JSON or without content.

        Raises:
            LabelStudioUnavailable: no connection, no answer in time, or a gateway's error.
            LabelStudioError: any other answer than success, with its reason.
        """
        asked = f"{request.method} {request.url.path}"
        try:
            response = super().send(request, **options)
        except httpx.TimeoutException as error:
            raise LabelStudioUnavailable(
                f"Label Studio at {self._server} did not answer {asked} in time;"
                " look at its log, then run the same command again"
            ) from error
        except httpx.TransportError as error:
            raise LabelStudioUnavailable(
                f"Label Studio at {self._server} cannot be reached ({error}); start it with"
                " `engine annotate`, or correct LABEL_STUDIO_URL"
            ) from error
        self._check(response, asked)
        return response

    def server_time(self) -> datetime:
        """The time that the server gives with its answers, to the second; this machine's without."""
        date = self.get(f"{self._server}/api/version").headers.get("Date")
        return parsedate_to_datetime(date) if date else datetime.now(UTC)

    def _check(self, response: httpx.Response, asked: str) -> None:
        status = response.status_code
        if status == httpx.codes.UNAUTHORIZED:
            raise refused_token(self._server)
        if status in (httpx.codes.BAD_GATEWAY, 503, 504):
            raise LabelStudioUnavailable(
                f"Label Studio at {self._server} is not up ({status}); try again when it is"
            )
        if not response.is_success:
            reason = " ".join(response.text.split())[:300]
            raise LabelStudioError(
                f"Label Studio at {self._server} answered {asked} with {status}: {reason}"
            )
        if response.content and "json" not in response.headers.get("Content-Type", ""):
            raise LabelStudioError(
                f"{self._server} answered {asked} with something that is not JSON; is this"
                " the address of a Label Studio?"
            )


def refused_token(url: str) -> LabelStudioError:
    """The error of a token that does not give access, or not any more."""
    return LabelStudioError(
        f"Label Studio at {url} refused the API token (401); set LABEL_STUDIO_API_KEY"
        " to a token from its Account & Settings page, and mind that legacy tokens are off"
        " in a new Label Studio until its organization allows them"
    )
