"""Native chatter is dropped; every other line reaches file descriptor 2."""

from __future__ import annotations

import os
import threading

import pytest

from dataset_engine.faces.quiet import quiet_stderr

CHATTER = (
    b"W0000 00:00:1795515823.103259    6438 inference_feedback_manager.cc:114] Feedback\n"
    b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n"
    b"AttributeError: 'MessageFactory' object has no attribute 'GetPrototype'\n"
)


def test_chatter_is_dropped_and_the_rest_is_kept(capfd: pytest.CaptureFixture[str]) -> None:
    with quiet_stderr():
        os.write(2, CHATTER + b"E0000 00:00:1 1 a.cc:1] a real error\n")
        os.write(2, b"somebody else's words\n")
    assert capfd.readouterr().err == "E0000 00:00:1 1 a.cc:1] a real error\nsomebody else's words\n"


def test_stderr_is_itself_again_after_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        with quiet_stderr():
            os.write(2, b"before\n")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    os.write(2, b"INFO: after\n")
    assert capfd.readouterr().err == "before\nINFO: after\n"


def test_threads_do_not_lose_each_others_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    def speak() -> None:
        with quiet_stderr():
            os.write(2, b"word\n")

    threads = [threading.Thread(target=speak) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert capfd.readouterr().err == "word\n" * 8
