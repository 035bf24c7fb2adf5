"""No secret, token or face reaches the service's log, whatever it is asked and whatever it meets."""

from __future__ import annotations

import base64
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from annotator.label_studio import SECRET_HEADER
from annotator.review.access import COOKIE, TOKEN_HEADER
from annotator.review.address import review_signer
from annotator.secrets import SERVICE_USER, HomeSecrets, home_secrets
from dataset_engine.store import Store
from dataset_engine.store.tables import AnnotationProject, now

PUBLIC = "https://review.example"
API_TOKEN = "0123456789abcdef0123456789abcdef01234567"
DEAD = "http://127.0.0.1:9"


@pytest.fixture
def secrets(store: Store, fill: Callable[..., None]) -> HomeSecrets:
    fill(identities=1)
    with store.writing() as session:
        session.add(AnnotationProject(server=DEAD, project=5))
    return home_secrets(store.home)


@pytest.fixture
def log(store: Store) -> Path:
    return store.home / "service.log"


@pytest.fixture
def service(store: Store, secrets: HomeSecrets, log: Path) -> Iterator[httpx.Client]:
    """The service behind a public address, with a Label Studio that does not answer."""
    assert secrets
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-P", "-m", "dataset_engine.cli", "--home", str(store.home)]
    command += ["serve", "--port", str(port), "--sync-every", "0.2"]
    environment = os.environ | {
        "REFSTAR_REVIEW_URL": PUBLIC,
        "LABEL_STUDIO_URL": DEAD,
        "LABEL_STUDIO_API_KEY": API_TOKEN,
        "REFSTAR_LOG_LEVEL": "debug",
    }
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            deadline = time.monotonic() + 120
            while time.monotonic() < deadline and process.poll() is None:
                try:
                    if client.get("/health").status_code == httpx.codes.OK:
                        break
                except httpx.TransportError:
                    time.sleep(0.1)
            yield client
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.slow
def test_no_secret_is_in_the_log_of_a_run(
    service: httpx.Client, store: Store, secrets: HomeSecrets, log: Path
) -> None:
    signer = review_signer(secrets)
    cookie, link = signer.session("Anna", now()), signer.link("Anna", now(), timedelta(days=1))
    page = {"Origin": PUBLIC, TOKEN_HEADER: signer.page_token("")}
    right = (SERVICE_USER, secrets.service_password)
    setup = {"project": "5.1", "schema": "<View/>", "hostname": DEAD, "access_token": API_TOKEN}
    gone = {"action": "ANNOTATIONS_DELETED", "project": {"id": 5}, "annotations": [{"id": 1}]}
    hook = {SECRET_HEADER: secrets.webhook_secret}

    statuses = [
        service.post("/setup", json=setup).status_code,
        service.post("/setup", json=setup, auth=right).status_code,
        service.post("/predict", json={"tasks": [{"id": 1}]}, auth=right).status_code,
        service.post("/predict", content=b"{", auth=right).status_code,
        service.post("/webhook", json=gone, headers=hook).status_code,
        service.post("/webhook", content=b"{", headers=hook).status_code,
        service.post(
            "/session", json={"name": "Anna", "password": secrets.review_password}, headers=page
        ).status_code,
        service.post("/session", json={"link": link}, headers=page).status_code,
        service.post(
            "/session", json={"name": "Anna", "password": "almost-it"}, headers=page
        ).status_code,
        service.get("/review", headers={"Cookie": f"{COOKIE}={cookie}"}).status_code,
        service.get(f"/review?token={API_TOKEN}").status_code,
    ]
    assert statuses == [401, 200, 422, 422, 202, 422, 200, 200, 403, 200, 303]

    deadline = time.monotonic() + 30
    while "cannot be reached" not in log.read_text() and time.monotonic() < deadline:
        time.sleep(0.1)
    written = log.read_text()
    assert "cannot be reached" in written  # the sync met the dead server, and said so
    assert "set aside" in written  # so was the webhook of an annotation that nobody knows
    basic = base64.b64encode(":".join(right).encode()).decode()
    shown = {
        "webhook secret": secrets.webhook_secret,
        "review password": secrets.review_password,
        "session secret": secrets.session_secret,
        "service password": secrets.service_password,
        "metrics token": secrets.metrics_token,
        "Label Studio's password": secrets.credentials.password,
        "Label Studio's token": secrets.credentials.token,
        "API token": API_TOKEN,
        "basic header": basic,
        "session": cookie,
        "link": link,
        "page token": signer.page_token(cookie),
        "a wrong password": "almost-it",
        "an image": str(store.images.root),
    }
    assert [name for name, value in shown.items() if value in written] == []
    assert not any(path.suffix in (".jpg", ".png") for path in map(Path, written.split()))
