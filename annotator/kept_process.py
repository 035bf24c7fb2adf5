"""A child process that never outlives its parent, however the parent ends."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

KEEPER = Path(__file__).with_name("keeper.py")
STOP_SECONDS = 15.0


class KeptProcess:
    """A program in a process group of its own, run by `annotator.keeper`.

    Args:
        command: program and arguments.
        log: file to which all output is appended.
        environment: the program's whole environment.
    """

    def __init__(
        self, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            self._keeper = subprocess.Popen(
                [sys.executable, "-I", str(KEEPER), *command],
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=None if environment is None else dict(environment),
                start_new_session=True,
            )

    @property
    def running(self) -> bool:
        """Whether the program is there."""
        return self._keeper.poll() is None

    def close(self) -> None:
        """Stop the program and all its children; safe to call twice."""
        if self._keeper.stdin is not None:
            self._keeper.stdin.close()
        self._keeper.terminate()
        try:
            self._keeper.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._keeper.kill()
            self._keeper.wait()
