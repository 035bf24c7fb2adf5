"""Starting and ending a server, with a small stand-in for the label-studio program."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from annotator import server as server_module
from annotator.server import Credentials, LabelStudioServer, ServerError

STAND_IN = """\
#!{python}
import json, os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

port = int(sys.argv[sys.argv.index("--port") + 1])
data = sys.argv[sys.argv.index("--data-dir") + 1]
if os.path.exists(data + "/broken"):
    sys.exit("no such table: auth_user")
with open(data + "/started.json", "w") as out:
    json.dump({{"pid": os.getpid(), "arguments": sys.argv[1:], "env": dict(os.environ)}}, out)


class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        token = self.headers.get("Authorization") == "Token " + os.environ["LABEL_STUDIO_USER_TOKEN"]
        wanted = self.path == "/health" or (token and not os.path.exists(data + "/other-token"))
        self.send_response(200 if wanted else 401)
        self.end_headers()

    def log_message(self, *args):
        pass


HTTPServer(("127.0.0.1", port), Answer).serve_forever()
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "label-studio"
    path.write_text(STAND_IN.format(python=sys.executable))
    path.chmod(0o755)
    return path


def make(program: Path, tmp_path: Path, port: int | None = None) -> LabelStudioServer:
    home = tmp_path / "home"
    return LabelStudioServer(program, home / "data", home, Credentials.generate(), port=port)


def started(server: LabelStudioServer) -> dict[str, object]:
    return dict(json.loads((server.data / "started.json").read_text()))


def alive(pid: object) -> bool:
    try:
        os.kill(int(str(pid)), 0)
    except ProcessLookupError:
        return False
    return True


def ends(pid: object, seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not alive(pid)


def test_a_server_lives_as_long_as_its_block(program: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    server = make(program, tmp_path)
    server._report = lines.append
    with server:
        pid = started(server)["pid"]
        assert server.running
        assert alive(pid)
        assert server.url.startswith("http://127.0.0.1:")
    assert ends(pid)
    assert not server.running
    server.close()
    assert lines[-1].startswith(f"Label Studio is ready at {server.url}")


def test_the_server_gets_its_own_environment(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setenv("VIRTUAL_ENV", "/elsewhere")
    monkeypatch.setenv("LABEL_STUDIO_PASSWORD", "another")
    with make(program, tmp_path) as server:
        start = started(server)
    environment = dict(start["env"])  # type: ignore[call-overload]
    assert environment["PYTHONPATH"].endswith("annotator/label_studio_server")
    modules = {path.name for path in Path(environment["PYTHONPATH"]).glob("*.py")}
    assert modules == {"__init__.py", "ls_settings.py"}
    assert "VIRTUAL_ENV" not in environment
    assert environment["LABEL_STUDIO_PASSWORD"] == server.credentials.password
    assert environment["LABEL_STUDIO_HOST"] == server.url
    assert environment["LOCAL_FILES_DOCUMENT_ROOT"] == str(tmp_path / "home")
    assert environment["SENTRY_DSN"] == ""
    arguments = list(start["arguments"])  # type: ignore[call-overload]
    assert arguments[:3] == ["start", "--internal-host", "127.0.0.1"]
    assert server.credentials.token not in arguments


@pytest.mark.parametrize(
    ("given", "direct"),
    [
        ({}, "127.0.0.1,localhost"),
        ({"NO_PROXY": "inside.example"}, "inside.example,127.0.0.1,localhost"),
        ({"NO_PROXY": "b", "no_proxy": "a"}, "a,127.0.0.1,localhost"),
    ],
)
def test_a_proxy_is_never_asked_for_this_machine(
    program: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    given: dict[str, str],
    direct: str,
) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"HTTP_PROXY": "http://proxy.example:3128"} | given).items():
        monkeypatch.setenv(name, value)
    with make(program, tmp_path) as server:
        environment = dict(started(server)["env"])  # type: ignore[call-overload]
    assert (environment["NO_PROXY"], environment["no_proxy"]) == (direct, direct)
    assert environment["HTTP_PROXY"] == "http://proxy.example:3128"


def test_a_program_is_not_left_behind_by_an_end_while_it_starts() -> None:
    script = textwrap.dedent("""
        import os, signal, subprocess
        from annotator import keeper

        class Interrupted(subprocess.Popen):
            def __init__(self, *given, **options):
                super().__init__(*given, **options)
                print(self.pid, flush=True)
                os.kill(os.getpid(), signal.SIGTERM)
                os.kill(os.getpid(), signal.SIGTERM)

        subprocess.Popen = Interrupted
        print(keeper.keep(["sleep", "60"]))
    """)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", script], **pipes) as process:  # type: ignore[call-overload]
        pid, status = process.stdout.read().split()
        assert process.wait() == 0
    assert int(status) == -signal.SIGTERM
    assert not alive(pid)


def test_a_killed_owner_does_not_leave_the_server_behind(program: Path, tmp_path: Path) -> None:
    owner = textwrap.dedent(f"""
        import time
        from pathlib import Path
        from annotator.server import Credentials, LabelStudioServer
        home = Path({str(tmp_path / "home")!r})
        LabelStudioServer(
            Path({str(program)!r}), home / "data", home, Credentials.generate()
        ).start()
        print("up", flush=True)
        time.sleep(60)
    """)
    with subprocess.Popen([sys.executable, "-c", owner], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        pid = json.loads((tmp_path / "home/data/started.json").read_text())["pid"]
        assert alive(pid)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert ends(pid)


def test_close_works_while_another_process_holds_the_pipe(program: Path, tmp_path: Path) -> None:
    server = make(program, tmp_path)
    server.start()
    pid = started(server)["pid"]
    assert server._process is not None
    keeper = server._process._keeper
    assert keeper.stdin is not None
    held = os.dup(keeper.stdin.fileno())
    try:
        server.close()
        assert ends(pid)
    finally:
        os.close(held)


def test_a_busy_port_is_refused_and_not_replaced(program: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        with pytest.raises(ServerError, match=rf"port {port} .*REFSTAR_LABEL_STUDIO_PORT"):
            make(program, tmp_path, port).start()


def test_a_missing_program_is_named(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match=r"nowhere/label-studio: no Label Studio here"):
        make(tmp_path / "nowhere/label-studio", tmp_path).start()


def test_a_server_that_ends_while_starting_shows_its_log(program: Path, tmp_path: Path) -> None:
    server = make(program, tmp_path)
    server.data.mkdir(parents=True)
    (server.data / "broken").touch()
    with pytest.raises(ServerError, match=r"label-studio\.log:\n.*no such table: auth_user"):
        server.start()
    assert not server.running


def test_a_server_that_never_answers_is_given_up(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "START_SECONDS", 0.5)
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    server = make(program, tmp_path)
    with pytest.raises(ServerError, match=r"did not answer at .* run the same command again"):
        server.start()
    assert not server.running


def test_data_of_other_credentials_are_refused(program: Path, tmp_path: Path) -> None:
    server = make(program, tmp_path)
    server.data.mkdir(parents=True)
    (server.data / "other-token").touch()
    with pytest.raises(ServerError, match="made with another API token"):
        server.start()
    assert ends(started(server)["pid"])


def test_credentials_do_not_show_their_secrets() -> None:
    credentials = Credentials.generate()
    assert len(bytes.fromhex(credentials.token)) == 20
    assert credentials.token not in repr(credentials)
    assert credentials.password not in repr(credentials)


def test_the_address_is_unknown_before_the_start(program: Path, tmp_path: Path) -> None:
    with pytest.raises(ServerError, match="call start"):
        _ = make(program, tmp_path).url
