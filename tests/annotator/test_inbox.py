"""The inbox: what was acknowledged is applied in the end, whatever happens in between."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from annotator.inbox import KEPT_REFUSED, Inbox, Refused


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_bodies_are_applied_in_order_and_gone_afterwards(tmp_path: Path) -> None:
    applied: list[bytes] = []
    inbox = Inbox(tmp_path / "inbox", applied.append)
    inbox.start()
    bodies = [str(number).encode() for number in range(20)]
    for body in bodies:
        inbox.put(body)
    until(lambda: inbox.waiting() == 0)
    inbox.close()
    assert applied == bodies


def test_what_a_crash_left_behind_is_applied_at_the_next_start(tmp_path: Path) -> None:
    crashed = Inbox(tmp_path / "inbox", lambda _: None)
    crashed.put(b"first")
    crashed.put(b"second")
    (tmp_path / "inbox" / ".half.tmp").write_bytes(b"never acknowledged")
    applied: list[bytes] = []
    inbox = Inbox(tmp_path / "inbox", applied.append)
    assert inbox.waiting() == 2
    inbox.start()
    until(lambda: inbox.waiting() == 0)
    inbox.close()
    assert applied == [b"first", b"second"]


def test_a_body_that_was_not_applied_to_the_end_is_applied_again(tmp_path: Path) -> None:
    tries: list[bytes] = []

    def die(body: bytes) -> None:
        tries.append(body)
        if len(tries) == 1:
            raise KeyboardInterrupt

    inbox = Inbox(tmp_path / "inbox", die)
    inbox.put(b"body")
    with pytest.raises(KeyboardInterrupt):
        inbox.drain()
    inbox.drain()
    assert tries == [b"body", b"body"]
    assert inbox.waiting() == 0


def test_a_store_that_takes_nothing_for_a_while_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("annotator.inbox.FIRST_PAUSE", 0.01)
    applied: list[bytes] = []
    locked = [OperationalError("INSERT", {}, Exception("database is locked")), OSError("full")]

    def apply(body: bytes) -> None:
        if locked:
            raise locked.pop()
        applied.append(body)

    inbox = Inbox(tmp_path / "inbox", apply)
    inbox.put(b"1")
    inbox.put(b"2")
    inbox.start()
    until(lambda: inbox.waiting() == 0)
    inbox.close()
    assert applied == [b"1", b"2"]


@pytest.mark.parametrize("error", [Refused("task 41 is not ours"), ValueError("a surprise")])
def test_one_that_cannot_be_applied_is_set_aside_and_the_rest_goes_on(
    tmp_path: Path, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    applied: list[bytes] = []

    def apply(body: bytes) -> None:
        if body == b"bad":
            raise error
        applied.append(body)

    inbox = Inbox(tmp_path / "inbox", apply)
    inbox.put(b"bad")
    inbox.put(b"good")
    inbox.drain()
    assert applied == [b"good"]
    (aside,) = (tmp_path / "inbox" / "refused").iterdir()
    assert aside.read_bytes() == b"bad"
    assert str(error) in caplog.text
    assert str(aside) in caplog.text


def test_refused_bodies_do_not_fill_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert KEPT_REFUSED >= 100
    monkeypatch.setattr("annotator.inbox.KEPT_REFUSED", 3)

    def refuse(_: bytes) -> None:
        raise Refused("no")

    inbox = Inbox(tmp_path / "inbox", refuse)
    for number in range(5):
        inbox.put(str(number).encode())
    inbox.drain()
    kept = sorted((tmp_path / "inbox" / "refused").iterdir())
    assert [path.read_bytes() for path in kept] == [b"2", b"3", b"4"]
