"""`engine demo`: the whole line on the embedded sample, by the commands that a person would type."""

from __future__ import annotations

import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from annotator.demo_report import write_report
from annotator.kept_process import KeptProcess
from annotator.scripted import annotate_all
from annotator.server import START_SECONDS, ServerError, check_label_studio
from annotator.workplace import (
    SERVICE_SECONDS,
    connect,
    label_studio_command,
    login_line,
    open_address,
)
from dataset_engine.progress import console, progress_bar
from dataset_engine.settings import Settings
from dataset_engine.store import Store

OPENING_SECONDS = START_SECONDS + 2 * SERVICE_SECONDS


@dataclass(frozen=True)
class DemoSize:
    """How much the demo does: by default what two cores manage in about a quarter of an hour."""

    identities: int = 40
    shots: int = 4
    pairs: int = 8
    seeds: int = 64
    unet_steps: int = 480
    refsel_steps: int = 200


def run_demo(settings: Settings, out: Path, *, stay: bool, size: DemoSize | None = None) -> Path:
    """Run every stage; a stage that was done before is passed over quickly.

    Args:
        settings: seed and home; the home is ``OUT/home`` when it was left at its default.
        out: folder of the demo.
        stay: leave the workplace open at the end, until Ctrl-C.
        size: how much to do.

    Returns:
        The page with pictures and figures.

    Raises:
        ServerError: there is no Label Studio, and none can be started.
    """
    if settings.label_studio_url is None:  # said now, and not after minutes of rendering
        check_label_studio(label_studio_command(settings))
    size = size or DemoSize()
    begun = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    if "home" not in settings.model_fields_set:
        settings = settings.model_copy(update={"home": out / "home"})
    faces, shards = out / "faces", out / "refsel-hq"
    engine = _Engine(settings.home)

    _say("People and photographs: the embedded sample, rendered faces whose masks are known")
    engine.run(["sample", faces, "--identities", size.identities, "--shots", size.shots])
    engine.run(["ingest", faces, "--pairs", size.pairs, "--licence", "CC0-1.0"])

    _say("The annotators' workplace: a real Label Studio, and the pre-annotation service")
    with _workplace(engine, settings) as opened:
        _say(f"{size.seeds} seed pairs go to the annotators")
        engine.run(["bootstrap", "--seed", size.seeds], expected=(0, 3))
        _annotate(opened, "seed pairs")
        _say("The seeds are there: train the bootstrap U-Net, propose masks for all other pairs")
        engine.run(["bootstrap", "--seed", size.seeds, "--steps", size.unet_steps], expected=(0,))
        _annotate(opened, "proposals")
        engine.run(["sync"])
        engine.run(["status"])

        _say("Reviewed triplets become RefSel-HQ shards, and RefSel learns from them")
        engine.run(["export", shards])
        engine.run(["train-refsel", shards, "--steps", size.refsel_steps])

        with Store(opened) as store:
            page = write_report(store, out, settings.home / "runs" / "refsel")
            with connect(store, opened) as workplace:
                url = workplace.url
        minutes = (time.monotonic() - begun) / 60
        console.print(f"\nPictures and figures: [bold]{page}[/]  ({minutes:.1f} min in all)")
        console.print(f"Label Studio: [bold]{url}[/]")
        console.print(login_line(settings.home.absolute()))
        if stay:
            console.print("The servers stay up. Paint something; Ctrl-C ends it.")
            with _until_interrupted():
                while True:
                    time.sleep(3600)
        console.print("The servers are closed now; open them again with:")
        console.print(f"  engine --home {settings.home} annotate")
    return page


class _Engine:
    """Runs `engine` commands as a person would, and shows them."""

    def __init__(self, home: Path) -> None:
        self.prefix = [sys.executable, "-P", "-m", "dataset_engine.cli", "--home", str(home)]
        self._home = home

    def run(self, arguments: Sequence[object], expected: Sequence[int] = (0,)) -> None:
        words = [str(argument) for argument in arguments]
        console.print(f"[dim]$ engine --home {self._home} {shlex.join(words)}[/]", soft_wrap=True)
        status = subprocess.run([*self.prefix, *words], check=False).returncode
        if status not in expected:
            raise RuntimeError(
                f"`engine {shlex.join(words)}` ended with status {status}; what it printed says why. "
                "After the mend, run the demo again: it goes on where it stopped"
            )


@contextmanager
def _workplace(engine: _Engine, settings: Settings) -> Iterator[Settings]:
    port, service_port = _free_ports(2)
    command = ["annotate", "--port", str(port), "--service-port", str(service_port)]
    console.print(f"[dim]$ engine --home {settings.home} {shlex.join(command)} &[/]")
    log = settings.home / "logs" / "annotate.log"
    process = KeptProcess([*engine.prefix, *command], log)
    try:
        begun = time.monotonic()
        while open_address(settings.home) is None:
            if not process.running or time.monotonic() - begun > OPENING_SECONDS:
                tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
                raise ServerError(f"the workplace did not open; the end of {log}:\n{tail}")
            time.sleep(0.2)
        console.print(f"open after {time.monotonic() - begun:.0f} s")
        yield settings
    finally:
        process.close()


@contextmanager
def _until_interrupted() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        console.print()


def _annotate(settings: Settings, what: str) -> None:
    _say(
        f"The demo's annotator is a program: it submits the sample's exact masks for the {what} "
        "through Label Studio's own API. On your photographs this is the work of people."
    )
    with (
        Store(settings) as store,
        connect(store, settings) as workplace,
        progress_bar(f"annotating {what}") as advance,
    ):
        annotate_all(store, workplace, settings.seed, advance)


def _say(text: str) -> None:
    console.rule()
    console.print(f"[bold]{text}[/]")


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()
