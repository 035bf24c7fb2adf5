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

GRACE_SECONDS = 10.0
"""How long the program may take to end by itself before it is killed."""


def keep(command: list[str]) -> int:
    """Run the command in a process group of its own until it ends, or input closes, or SIGTERM.

    Returns:
        The command's exit status; negative for a signal.
    """
    over = threading.Event()
    # A process forked by the owner may hold the pipe open: the owner's SIGTERM works even then. It
    # is listened to before there is a program, so that none is left behind; and a handler may
    # interrupt another, so it must not take the event's lock itself.
    signal.signal(signal.SIGTERM, lambda *_: _in_background(over.set))
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    _in_background(lambda: _end(child, over))
    _in_background(lambda: _await_input_end(over))
    status = child.wait()
    _signal_group(child.pid, signal.SIGKILL)
    return status


def _in_background(run: Callable[[], None]) -> None:
    threading.Thread(target=run, daemon=True).start()


def _await_input_end(over: threading.Event) -> None:
    while os.read(0, 1024):
        pass
    over.set()


def _end(child: subprocess.Popen[bytes], over: threading.Event) -> None:
    over.wait()
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
