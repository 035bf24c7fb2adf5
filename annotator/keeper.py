"""Runs a program and ends it, with all its children, once standard input closes.

Whoever starts this file holds the other end of the pipe. Even when that process is killed without
a chance to clean up, the system closes the pipe, and so the program never outlives it. Run as a
file of its own (``python -I keeper.py COMMAND...``); standard library only.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable

Child = subprocess.Popen[bytes]

GRACE_SECONDS = 10.0
"""How long the program may take to end by itself before it is killed."""


def keep(command: list[str]) -> int:
    """Run the command in a process group of its own until it ends, or input closes, or SIGTERM.

    Returns:
        The command's exit status; negative for a signal.
    """
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    # A process forked by the owner may hold the pipe open: the owner's SIGTERM works even then.
    signal.signal(signal.SIGTERM, lambda *_: _in_background(_end, child))
    _in_background(_end_with_input, child)
    status = child.wait()
    _signal_group(child.pid, signal.SIGKILL)
    return status


def _in_background(run: Callable[[Child], None], child: Child) -> None:
    threading.Thread(target=run, args=(child,), daemon=True).start()


def _end_with_input(child: Child) -> None:
    while os.read(0, 1024):
        pass
    _end(child)


def _end(child: Child) -> None:
    _signal_group(child.pid, signal.SIGTERM)
    try:
        child.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        _signal_group(child.pid, signal.SIGKILL)


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


if __name__ == "__main__":
    # The end comes through the pipe; a Ctrl-C meant for the owner must not reach the program.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(keep(sys.argv[1:]))
