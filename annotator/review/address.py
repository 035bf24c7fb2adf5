"""Where people find the review pages, and links that sign them in."""

from __future__ import annotations

import ipaddress
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from annotator.review.tokens import Signer
from annotator.secrets import HomeSecrets, home_secrets
from dataset_engine.settings import Settings
from dataset_engine.store.tables import now


def pages_url(settings: Settings) -> str:
    """The base URL of the review pages, as a person's browser needs it."""
    return settings.review_url or settings.resolved_service_url


def needs_sign_in(settings: Settings) -> bool:
    """Whether people have to sign in: they may not be at this machine."""
    return not only_here(settings.service_host, settings.review_url)


def only_here(host: str, url: str | None) -> bool:
    """Whether a service can be reached from its own machine only.

    Args:
        host: address that it binds to.
        url: how people reach it through a proxy, or None.
    """
    return is_loopback(host) and (url is None or is_loopback(urlsplit(url).hostname or ""))


def is_loopback(host: str) -> bool:
    """Whether an address or a host name means this very machine."""
    if host.rstrip(".").lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def review_signer(secrets: HomeSecrets) -> Signer:
    """What signs the sessions and the sign-in links of a home."""
    return Signer(secrets.session_secret, secrets.review_password)


def review_link(home: Path, settings: Settings, name: str, lasts: timedelta) -> str:
    """A link that signs one person in under this name, for as long as it lasts.

    What follows its ``#`` stays in the browser, so that no server's log has it.

    Raises:
        UnfitNameError: the name cannot stand beside a decision.
    """
    link = review_signer(home_secrets(home)).link(name, now(), lasts)
    return f"{pages_url(settings)}/sign-in#{link}"
