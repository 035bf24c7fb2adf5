"""Where annotators work: Label Studio, the pre-annotation service, and the project between them.

`open_workplace` is what `engine annotate` holds open; `connect` is how every other command finds it. A
lock file tells a living workplace from a note that a crash left behind.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

import httpx
from sqlalchemy import select

from annotator.connection import LabelStudioUnavailable
from annotator.intake import HOME_SERVER, project_row
from annotator.kept_process import KeptProcess
from annotator.label_studio import LabelStudio
from annotator.locks import held, is_held
from annotator.offering import NOTHING_MIXED, Mix
from annotator.review.address import needs_sign_in, pages_url
from annotator.secrets import HomeSecrets, home_secrets
from annotator.server import LabelStudioServer, ServerError
from dataset_engine.progress import console
from dataset_engine.settings import Settings
from dataset_engine.store import Store
from dataset_engine.store.blobs import write_atomically
from dataset_engine.store.tables import AnnotationProject

SERVICE_SECONDS = 120.0
LOCK_NAME = "annotate.lock"


class Running(Protocol):
    """A process that was started."""

    @property
    def running(self) -> bool:
        """Whether it is still there."""


@dataclass(frozen=True)
class Workplace:
    """A prepared annotation project.

    Attributes:
        studio: the server's client.
        server: see `AnnotationProject.server`.
        project: Label Studio's project id.
        project_id: row id of the project in the store.
        processes: what `open_workplace` started.
        mix: what is mixed into the order in which pairs are offered.
        public_url: how people reach the server through a proxy, or None.
    """

    studio: LabelStudio
    server: str
    project: int
    project_id: int
    processes: tuple[Running, ...] = ()
    mix: Mix = NOTHING_MIXED
    public_url: str | None = None

    @property
    def url(self) -> str:
        """The page on which people annotate."""
        return f"{self.public_url or self.studio.url}/projects/{self.project}/data"


@dataclass(frozen=True)
class _Open:
    """What ``annotate.json`` says of an open workplace."""

    url: str
    service_url: str
    pid: int


@contextmanager
def open_workplace(
    store: Store, settings: Settings, report: Callable[[str], None]
) -> Iterator[Workplace]:
    """Start what is not running yet, prepare the project, and stop what was started at the end.

    Args:
        store: the store.
        settings: where Label Studio is, or which ports to use.
        report: is told, in a line each, what is going on.

    Raises:
        ServerError: a server cannot be started, or this home's workplace is open already.
        LabelStudioUnavailable: the server at ``LABEL_STUDIO_URL`` does not answer.
    """
    secrets = home_secrets(store.home)
    with ExitStack() as stack:
        busy = (
            f"the workplace of {store.home} is open already{_where(store.home)}: use that one, or "
            "stop it"
        )
        stack.enter_context(held(store.home / LOCK_NAME, busy))
        url = settings.label_studio_url
        processes: list[Running] = []
        if url is None:
            server = LabelStudioServer(
                label_studio_command(settings),
                store.home / "label-studio",
                store.served,
                secrets.credentials,
                port=settings.label_studio_port,
                database_url=settings.label_studio_database_url,
                public_url=settings.label_studio_public_url,
                report=report,
            )
            url = stack.enter_context(server).url
            processes.append(server)
        if settings.service_url is None:
            service = start_service(store.home, settings)
            stack.callback(service.close)
            processes.append(service)
            report(f"the pre-annotation service is ready at {settings.resolved_service_url}")
        workplace = _prepare(store, settings, url, secrets)
        stack.callback(workplace.studio.close)
        note = store.home / "annotate.json"
        here = _Open(url, settings.resolved_service_url, os.getpid())
        write_atomically(note, json.dumps(asdict(here)).encode())
        stack.callback(note.unlink, missing_ok=True)
        yield replace(workplace, processes=tuple(processes))


def hold_open(store: Store, settings: Settings) -> None:
    """Keep the workplace open until Ctrl-C or SIGTERM; prints the address and how to log in.

    Where Label Studio and the service both run elsewhere, it prepares the project and returns.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    with ExitStack() as stack:
        with console.status("opening the workplace") as status:
            workplace = stack.enter_context(open_workplace(store, settings, status.update))
        console.print(f"\nAnnotate at [bold]{workplace.url}[/]")
        if settings.label_studio_url is None:
            console.print(login_line(store.home))
        console.print(f"Review at [bold]{pages_url(settings)}/review[/]")
        if needs_sign_in(settings):
            console.print("`engine review-link NAME` makes a link that signs a reviewer in")
        if settings.label_studio_url is not None and settings.service_url is not None:
            return  # both run elsewhere, so there is nothing to hold
        console.print("Ctrl-C closes the workplace; nothing is lost by it.")
        try:
            while all(process.running for process in workplace.processes):
                time.sleep(1)
        except KeyboardInterrupt:
            console.print("closing")
            return
        raise ServerError(
            f"Label Studio or the service ended by itself; look at {store.home / 'logs'} and "
            f"{store.home / 'label-studio' / 'label-studio.log'}, then open the workplace again"
        )


def login_line(home: Path) -> str:
    """How to log in; the password itself is shown to a person only, and never reaches a log file."""
    login = home_secrets(home).credentials
    secret = login.password if sys.stdout.isatty() else f"that is in {home / 'secrets.json'}"
    return f"log in as {login.username} with the password {secret}"


@contextmanager
def connect(store: Store, settings: Settings) -> Iterator[Workplace]:
    """Find the workplace of this home.

    Raises:
        LabelStudioUnavailable: no workplace is open; the message says how to open one.
    """
    url, token = settings.label_studio_url, access_token(settings, store.home)
    if url is None:
        here = _read_open(store.home)
        if here is None:
            raise LabelStudioUnavailable(
                "Label Studio is not running for this home: start it in another terminal with "
                f"`engine --home {store.home} annotate`, or set LABEL_STUDIO_URL"
            )
        url = here.url
    with LabelStudio(url, token) as studio:
        yield _workplace(store, settings, studio)


def label_studio_command(settings: Settings) -> Path:
    """The label-studio program: the configured one, or that of ``.venv-label-studio``."""
    if settings.label_studio_command is not None:
        return settings.label_studio_command
    program = Path(".venv-label-studio", "bin", "label-studio")
    beside = Path(__file__).resolve().parent.parent / program
    return beside if beside.exists() and not program.exists() else program.absolute()


def start_service(home: Path, settings: Settings) -> KeptProcess:
    """Start the pre-annotation service as a process of its own, and wait until it answers.

    It logs into the home.

    Raises:
        ServerError: it ends, or does not answer.
    """
    _check_free(settings.service_host, settings.service_port)
    command = [sys.executable, "-P", "-m", "dataset_engine.cli", "--home", str(home), "serve"]
    command += ["--host", settings.service_host, "--port", str(settings.service_port)]
    environment = dict(os.environ)
    if settings.label_studio_url is not None:
        environment["LABEL_STUDIO_URL"] = settings.label_studio_url
    if settings.database_url is not None:
        environment["REFSTAR_DATABASE_URL"] = settings.database_url
    log = home / "logs" / "service.log"
    service = KeptProcess(command, log, environment)
    try:
        _await_service(service, settings, log)
    except BaseException:
        service.close()
        raise
    return service


def _prepare(store: Store, settings: Settings, url: str, secrets: HomeSecrets) -> Workplace:
    studio = LabelStudio(url, access_token(settings, store.home))
    store.images.root.mkdir(parents=True, exist_ok=True)
    workplace = _workplace(store, settings, studio)
    project, service = workplace.project, settings.resolved_service_url
    studio.ensure_storage(project, store.images.root)
    studio.ensure_backend(project, service, secrets.service_password, interactive=True)
    studio.ensure_webhook(project, f"{service}/webhook", secrets.webhook_secret)
    return workplace


def _workplace(store: Store, settings: Settings, studio: LabelStudio) -> Workplace:
    """The engine's project on this server."""
    server = settings.label_studio_url or HOME_SERVER
    project, project_id = _project(store, settings, studio, server)
    return Workplace(
        studio,
        server,
        project,
        project_id,
        public_url=settings.label_studio_public_url,
        mix=Mix.of(settings),
    )


def _project(store: Store, settings: Settings, studio: LabelStudio, server: str) -> tuple[int, int]:
    """Label Studio's project id and its row, found again even when people gave it another title.

    A server that was set up anew has none of the projects that the store knows; then a new one is
    made, with a row of its own, and what was decided on the old server stays as it is.
    """
    with store.reading() as session:
        known = session.execute(
            select(AnnotationProject.project, AnnotationProject.made_at)
            .where(AnnotationProject.server == server)
            .order_by(AnnotationProject.id.desc())
        ).all()
    for number, made_at in known:
        if made_at is not None and studio.project_made_at(number) == made_at:
            project = studio.ensure_project(settings.label_studio_project, number)
            break
    else:
        project = studio.ensure_project(settings.label_studio_project)
    made_at = studio.project_made_at(project)
    return project, project_row(store, server, project, made_at)


def _await_service(service: KeptProcess, settings: Settings, log: Path) -> None:
    health = f"http://{settings.service_host}:{settings.service_port}/health"
    begun = time.monotonic()
    with httpx.Client(timeout=5.0, trust_env=False) as client:
        while True:
            if not service.running:
                tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
                raise ServerError(
                    f"the pre-annotation service ended while starting; the end of {log}:\n{tail}"
                )
            try:
                if client.get(health).status_code == httpx.codes.OK and service.running:
                    return
            except httpx.TransportError:
                pass
            if time.monotonic() - begun > SERVICE_SECONDS:
                raise ServerError(f"the pre-annotation service does not answer; look at {log}")
            time.sleep(0.1)


def _check_free(host: str, port: int) -> None:
    """Refuse a port on which something else would answer for the service."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ServerError(
                f"port {port} on {host} cannot be used for the pre-annotation service "
                f"({error.strerror}): stop what listens there, or choose another with --service-port"
            ) from error


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def access_token(settings: Settings, home: Path) -> str:
    """The token for Label Studio: the one that was given, or that of the home's own server."""
    if settings.label_studio_token is not None:
        return settings.label_studio_token.get_secret_value()
    return home_secrets(home).credentials.token


def open_address(home: Path) -> str | None:
    """URL of the Label Studio that `open_workplace` holds open for a home, or None."""
    here = _read_open(home)
    return here.url if here else None


def _read_open(home: Path) -> _Open | None:
    """The open workplace of a home, or None; a note left behind by a crash does not count."""
    if not is_held(home / LOCK_NAME):
        return None
    try:
        return _Open(**json.loads((home / "annotate.json").read_text()))
    except FileNotFoundError:
        return None


def _where(home: Path) -> str:
    here = _read_open(home)
    return f" at {here.url} (process {here.pid})" if here else ""
