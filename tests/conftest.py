"""What tests of all rooms share: real servers, and a small store with pairs in it."""

from __future__ import annotations

import importlib.util
import itertools
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from annotator.label_studio import LabelStudio
from annotator.server import Credentials, LabelStudioServer
from dataset_engine.settings import Settings
from dataset_engine.store import Store
from dataset_engine.store.blobs import encode_jpeg
from dataset_engine.store.database import upgrade
from dataset_engine.store.pairs import add_identities, add_pairs
from dataset_engine.store.queries import pair_by_key
from dataset_engine.store.tables import Image, Pair

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = "LEFT OUT: "
DATABASES = ("sqlite", "postgresql")
EVERY_DATABASE = (
    "annotator/test_review_decisions.py",
    "annotator/test_review_showing.py",
    "dataset_engine/shards/test_import_shards.py",
    "dataset_engine/test_forgetting.py",
    "dataset_engine/test_growth.py",
    "dataset_engine/test_migrations.py",
    "dataset_engine/test_pairs.py",
    "dataset_engine/test_quality.py",
    "dataset_engine/test_reviews.py",
    "dataset_engine/test_rounds_in_store.py",
    "dataset_engine/test_two_writers.py",
)
"""Files whose tests run on each of ``DATABASES``, if they use one."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    file = metafunc.definition.path.relative_to(ROOT / "tests").as_posix()
    if file in EVERY_DATABASE and "database" in metafunc.fixturenames:
        metafunc.parametrize("database", DATABASES, indirect=True)


def _leave_out(variable: str, reason: str, untested: str) -> NoReturn:
    """Skip and say so at the end of the run, or fail where nothing may be left out."""
    if os.environ.get(variable) == "1":
        pytest.fail(f"{variable}=1, but {reason}", pytrace=False)
    pytest.skip(f"{LEFT_OUT}{reason}: {untested} was not tested")


@pytest.fixture(scope="session")
def leave_out() -> Callable[[str], NoReturn]:
    """Leave out what needs a browser."""

    def skip(reason: str) -> NoReturn:
        _leave_out("REFSTAR_REQUIRE_BROWSER", reason, "what a person does in the browser")

    return skip


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    # of the reports, since the tests may have run in other processes
    said = {report.longrepr[2] for report in terminalreporter.getreports("skipped")}
    for reason in sorted(one.partition(LEFT_OUT)[2] for one in said if LEFT_OUT in one):
        terminalreporter.section("TESTS WERE LEFT OUT", sep="!", red=True, bold=True)
        terminalreporter.line(reason, red=True)


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


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Any]:
    """A real PostgreSQL server, started once, with a migrated database to copy."""
    spec = importlib.util.spec_from_file_location(
        "postgresql_server", ROOT / "benchmarks" / "postgresql_server.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    try:
        module.programs()
    except FileNotFoundError as error:
        _leave_out("REFSTAR_REQUIRE_POSTGRES", str(error), "the store on PostgreSQL")
    with module.PostgresqlServer() as server:
        upgrade(server.create("migrated"))
        yield server


@pytest.fixture(scope="session")
def database_names() -> Iterator[str]:
    return map("test_{}".format, itertools.count())


@pytest.fixture
def database(request: pytest.FixtureRequest) -> str:
    """Which of ``DATABASES`` the test runs on: SQLite, unless its file is in ``EVERY_DATABASE``."""
    return str(getattr(request, "param", "sqlite"))


@pytest.fixture
def database_url(
    database: str, request: pytest.FixtureRequest, database_names: Iterator[str]
) -> Iterator[str | None]:
    """The URL of a database without rows; None for the SQLite file of a home."""
    if database == "sqlite":
        yield None
        return
    server = request.getfixturevalue("postgresql")
    name = next(database_names)
    yield server.create(name, template="migrated")
    server.drop(name)


@pytest.fixture
def empty_url(
    database: str,
    request: pytest.FixtureRequest,
    database_names: Iterator[str],
    tmp_path: Path,
) -> Iterator[str]:
    """The URL of a database without tables."""
    if database == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.sqlite'}"
        return
    server = request.getfixturevalue("postgresql")
    name = next(database_names)
    yield server.create(name)
    server.drop(name)


@pytest.fixture
def settings(tmp_path: Path, database_url: str | None, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in [name for name in os.environ if name.startswith(("REFSTAR_", "LABEL_STUDIO_"))]:
        monkeypatch.delenv(name)
    return Settings(home=tmp_path / "home", database_url=database_url)


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


@pytest.fixture
def first_pair(store: Store) -> Callable[[], Pair]:
    """Gives the store's first pair, its images loaded."""

    def find() -> Pair:
        with store.reading() as session:
            found = pair_by_key(session, session.get_one(Pair, 1).key)
        assert found is not None
        return found

    return find


@pytest.fixture(scope="session")
def tiny_pipeline() -> Callable[..., Any]:
    """Makes a restoration pipeline of 32 px, untrained, whose reference is seen in what comes out."""

    def make(refsel: Callable[..., Any]) -> Any:
        import torch

        from models.backbones import TinyBackbone
        from models.pipeline import RefStarPipeline
        from models.prompts import PlainPrompt
        from models.refsel import FirstInput, RefSelConfig
        from models.restorer import Restorer, RestorerConfig

        torch.manual_seed(0)
        tiny = TinyBackbone(image_size=32, widths=(16, 32), groups=8, heads=2, prompt_width=8)
        config = RestorerConfig(timestep=250, lora=None)
        restorer = Restorer(tiny.unet(), tiny.autoencoder(), config)
        restorer.add_reference()
        for projection in restorer.reference_attention.values():
            projection.to_out.weight.data.normal_(std=0.2)
        selecting = RefSelConfig(
            encoder="tu-test_resnet",
            decoder_channels=(8, 8, 8, 8, 8),
            working_size=32,
            first_input=FirstInput.DEGRADED,
        )
        prompt = PlainPrompt(tiny.prompt())
        return RefStarPipeline(restorer.eval(), prompt, refsel(selecting).eval())

    return make


def _field(number: int, value: int | bytes) -> bytes:
    """One field of a protobuf message: a number, or bytes."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _value(name: bytes, *dims: int) -> bytes:
    shape = b"".join(_field(1, _field(1, dim)) for dim in dims)
    return _field(1, name) + _field(2, _field(1, _field(1, 1) + _field(2, shape)))


@pytest.fixture(scope="session")
def arcface_stand_in() -> Callable[[NDArray[np.float32]], bytes]:
    """Makes an ArcFace of ONNX that multiplies the colours of 4 x 4 cells, float32[48], by a matrix."""

    def make(weight: NDArray[np.float32]) -> bytes:
        ints = b"".join(_field(8, 28) for _ in range(2))
        attributes = b"".join(
            _field(5, _field(1, name) + ints + _field(20, 7))
            for name in (b"kernel_shape", b"strides")
        )
        pool = _field(1, b"x") + _field(2, b"pooled") + _field(4, b"AveragePool") + attributes
        flat = _field(1, b"pooled") + _field(2, b"flat") + _field(4, b"Flatten")
        product = _field(1, b"flat") + _field(1, b"w") + _field(2, b"y") + _field(4, b"MatMul")
        tensor = b"".join(_field(1, side) for side in weight.shape)
        tensor += _field(2, 1) + _field(8, b"w") + _field(9, weight.tobytes())
        graph = b"".join(_field(1, node) for node in (pool, flat, product)) + _field(2, b"g")
        graph += _field(5, tensor) + _field(11, _value(b"x", 1, 3, 112, 112))
        graph += _field(12, _value(b"y", 1, weight.shape[1]))
        return _field(1, 8) + _field(7, graph) + _field(8, _field(1, b"") + _field(2, 13))

    return make
