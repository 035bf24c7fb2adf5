"""Keeps the chatter of a native library off the terminal without losing anybody else's words."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_CHATTER: Final = re.compile(
    rb"^(?:[IW]\d{4} \d\d:|INFO: |WARNING: All log messages before absl|"
    rb"WARNING: Logging before InitGoogleLogging|AttributeError: 'MessageFactory')"
)
"""Lines of no interest: glog and TensorFlow Lite information, and protobuf's note that a method
which mediapipe looks for, and does without, is gone."""

_ONE_AT_A_TIME: Final = threading.Lock()


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """While it is open, holds back what is written to file descriptor 2, then passes it on.

    Native code writes to the descriptor itself, out of reach of `sys.stderr`. Lines that are a
    library's information are dropped; everything else, errors and other threads' output
    included, is written when the block ends.
    """
    with _ONE_AT_A_TIME, tempfile.TemporaryFile() as held:
        try:
            if sys.stderr is not None:
                sys.stderr.flush()
            terminal = os.dup(2)
        except (OSError, ValueError):  # no stderr: nothing to keep quiet
            yield
            return
        try:
            os.dup2(held.fileno(), 2)
            yield
        finally:
            if sys.stderr is not None:
                sys.stderr.flush()
            os.dup2(terminal, 2)
            os.close(terminal)
            held.seek(0)
            for line in held:
                if not _CHATTER.match(line):
                    os.write(2, line)
