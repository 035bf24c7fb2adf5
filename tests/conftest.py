"""What tests of all rooms share: a real Label Studio, and a small store with pairs in it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import cv2
import numpy as np
import pytest

from annotator.label_studio import LabelStudio
from annotator.server import Credentials, LabelStudioServer
from dataset_engine.settings import Settings
from dataset_engine.store import Store
from dataset_engine.store.blobs import encode_jpeg
from dataset_engine.store.pairs import add_identities, add_pairs
from dataset_engine.store.tables import Image

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def leave_out(request: pytest.FixtureRequest) -> Callable[[str], NoReturn]:
    """Skip and say so at the end of the run, or fail where nothing may be left out."""

    def skip(reason: str) -> NoReturn:
        if os.environ.get("REFSTAR_REQUIRE_BROWSER") == "1":
            pytest.fail(f"REFSTAR_REQUIRE_BROWSER=1, but {reason}", pytrace=False)
        reasons = request.config.stash.setdefault(LEFT_OUT, [])
        if reason not in reasons:
            reasons.append(reason)
        pytest.skip(reason)

    return skip


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    for reason in config.stash.get(LEFT_OUT, []):
        terminalreporter.section("TESTS WERE LEFT OUT", sep="!", red=True, bold=True)
        terminalreporter.line(
            f"{reason}: what a person does in the browser was not tested", red=True
        )


@pytest.fixture(scope="session")
def label_studio_command(leave_out: Callable[[str], NoReturn]) -> Path:
    given = os.environ.get("REFSTAR_LABEL_STUDIO_COMMAND")
    command = Path(given) if given else ROOT / ".venv-label-studio" / "bin" / "label-studio"
    if not command.is_file():
        leave_out(f"there is no Label Studio server at {command}")
    return command


@pytest.fixture(scope="session")
def label_studio_server(
    label_studio_command: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LabelStudioServer]:
    """The real server; its document root is the ``images`` of a home that tests may fill."""
    home = tmp_path_factory.mktemp("home")
    served = home / "images"
    (served / "aligned").mkdir(parents=True)
    server = LabelStudioServer(
        label_studio_command, home / "label-studio", served, Credentials.generate()
    )
    with server:
        yield server


@pytest.fixture
def label_studio(label_studio_server: LabelStudioServer) -> Iterator[LabelStudio]:
    """A client of the real server, as its first user."""
    with LabelStudio(label_studio_server.url, label_studio_server.credentials.token) as client:
        yield client


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in [name for name in os.environ if name.startswith(("REFSTAR_", "LABEL_STUDIO_"))]:
        monkeypatch.delenv(name)
    return Settings(home=tmp_path / "home")


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    """A new, empty store."""
    with Store(settings) as opened:
        yield opened


@pytest.fixture
def fill(store: Store) -> Callable[..., None]:
    """Put identities with images and all their ordered pairs into the store.

    The images are blurred noise and the face regions are ellipses: nothing here needs a face.
    """

    def put(identities: int = 3, images: int = 2, limit: int = 12) -> None:
        yy, xx = np.mgrid[:512, :512]
        with store.writing() as session:
            names = [f"person-{number}" for number in range(identities)]
            made = add_identities(session, names, seed=0, source="test", licence="none")
            for number, identity in enumerate(made[name] for name in names):
                for shot in range(images):
                    random = np.random.default_rng([number, shot])
                    small = random.integers(0, 255, (16, 16, 3), dtype=np.uint8)
                    picture = cv2.resize(small, (512, 512), interpolation=cv2.INTER_CUBIC)
                    region = ((xx - 256) / 150) ** 2 + ((yy - 270 - shot) / 190) ** 2 < 1
                    session.add(
                        Image(
                            identity_id=identity.id,
                            name=f"{identity.name}/{shot}.png",
                            source_sha256=f"{number:032d}{shot:032d}",
                            sha256=store.images.put(encode_jpeg(np.asarray(picture, np.uint8))),
                            region_sha256=store.put_mask(region),
                            phash=f"{random.integers(0, 2**63):016x}",
                            sharpness=1.0,
                            five_points=[[193.0, 240.0]] * 5,
                        )
                    )
                session.flush()
                add_pairs(session, identity.id, seed=0, limit=limit)

    return put
