"""Finding and opening the annotators' workplace: secrets, ports, locks, projects under other names."""

from __future__ import annotations

import json
import socket
import stat
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from annotator.connection import LabelStudioUnavailable
from annotator.locks import LockHeldError, held, is_held
from annotator.secrets import home_secrets
from annotator.server import LabelStudioServer, ServerError
from annotator.workplace import connect, open_address, start_service
from dataset_engine.settings import Settings
from dataset_engine.store import Store


def test_secrets_are_made_once_and_readable_by_the_owner_only(
    settings: Settings, tmp_path: Path
) -> None:
    assert settings.home != tmp_path
    first = home_secrets(tmp_path)
    assert home_secrets(tmp_path) == first
    assert stat.S_IMODE((tmp_path / "secrets.json").stat().st_mode) == 0o600
    assert len(first.credentials.token) == 40
    assert first.webhook_secret not in repr(first)
    assert home_secrets(tmp_path / "other").webhook_secret != first.webhook_secret


def test_secrets_of_the_environment_win_and_are_not_written(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert settings.home != tmp_path
    monkeypatch.setenv("REFSTAR_WEBHOOK_SECRET", "from-outside")
    assert home_secrets(tmp_path).webhook_secret == "from-outside"
    assert "from-outside" not in (tmp_path / "secrets.json").read_text()


def test_damaged_secrets_are_named_with_the_mend(tmp_path: Path) -> None:
    (tmp_path / "secrets.json").write_text("{")
    with pytest.raises(ValueError, match=r"secrets\.json is damaged .* restore it"):
        home_secrets(tmp_path)


def test_a_note_without_a_living_process_is_no_open_workplace(
    store: Store, settings: Settings
) -> None:
    note = {"url": "http://127.0.0.1:1", "service_url": "http://127.0.0.1:2", "pid": 1}
    (store.home / "annotate.json").write_text(json.dumps(note))
    assert open_address(store.home) is None
    with (
        pytest.raises(LabelStudioUnavailable, match=r"annotate`, or set LABEL_STUDIO_URL"),
        connect(store, settings),
    ):
        raise AssertionError("there is nothing to connect to")
    with held(store.home / "annotate.lock", "busy"):
        assert open_address(store.home) == "http://127.0.0.1:1"


def test_a_lock_is_given_back_when_its_holder_is_killed(tmp_path: Path) -> None:
    lock = tmp_path / "x.lock"
    code = (
        "import sys, time; from pathlib import Path; from annotator.locks import held\n"
        f"with held(Path({str(lock)!r}), 'busy'): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert is_held(lock)
        with pytest.raises(LockHeldError, match="busy"), held(lock, "busy"):
            raise AssertionError("two holders")
        holder.kill()
    assert not is_held(lock)
    with held(lock, "busy"):
        assert is_held(lock)


def test_a_port_where_something_else_answers_is_refused(store: Store, settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        busy = settings.model_copy(update={"service_port": port})
        with pytest.raises(ServerError, match=rf"port {port} .*--service-port"):
            start_service(store.home, busy)


@pytest.mark.slow
def test_a_project_is_found_again_under_another_name(
    store: Store, settings: Settings, label_studio_server: LabelStudioServer
) -> None:
    token = label_studio_server.credentials.token
    there = settings.model_copy(
        update={
            "label_studio_url": label_studio_server.url,
            "label_studio_token": SecretStr(token),
            "label_studio_project": "Before the renaming",
        }
    )
    with connect(store, there) as first:
        pass
    answer = httpx.patch(
        f"{label_studio_server.url}/api/projects/{first.project}/",
        json={"title": "After the renaming"},
        headers={"Authorization": f"Token {token}"},
    )
    assert answer.is_success
    with connect(store, there) as second:
        pass
    assert (second.project, second.project_id) == (first.project, first.project_id)
