"""docker-compose.yml is valid, publishes nothing but loopback, and its commands work.

The commands are run outside a container, with the environment that the file gives them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from typer.testing import CliRunner

from annotator.label_studio import BACKEND_TITLE, SECRET_HEADER, LabelStudio
from annotator.secrets import VARIABLES
from annotator.server import LabelStudioServer
from dataset_engine.cli import app
from dataset_engine.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
SECRETS = tuple(VARIABLES.values())
DECIDED_BY_THE_FILE = {
    *("home", "service_host", "service_port", "service_url"),
    *("label_studio_url", "label_studio_token", "label_studio_port"),
    *("label_studio_command", "label_studio_database_url"),
}
"""Where things are, which the file itself says."""
PRIVATE = (
    *("10.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "192.168.0.0/16"),
    *("::1/128", "::ffff:0:0/96", "fc00::/7", "fe80::/10"),
)


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "docker-compose.yml").read_text()))


def environment(service: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, str]:
    """A service's variables as compose fills them in, in an otherwise ordinary environment."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("REFSTAR_", "LABEL_STUDIO_"))}
    return kept | {
        name: re.sub(
            r"\$\{(\w+)(:[-?][^}]*)?\}",
            lambda found: given.get(found[1], (found[2] or ":-")[2:]),
            value,
        )
        for name, value in service["environment"].items()
    }


def engine(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "dataset_engine.cli", *arguments]


@contextmanager
def serving(
    service: Mapping[str, Any], variables: Mapping[str, str], log: Path
) -> Iterator[httpx.Client]:
    """The service's own command, at the address in REFSTAR_SERVICE_URL."""
    url = httpx.URL(variables["REFSTAR_SERVICE_URL"])
    here = {"0.0.0.0": url.host, "9090": str(url.port)}
    command = engine(*(here.get(word, word) for word in service["command"]))
    with log.open("wb") as out, httpx.Client(base_url=url, trust_env=False, timeout=5) as client:
        process = subprocess.Popen(command, env=dict(variables), stdout=out, stderr=out)
        try:
            deadline = time.monotonic() + 300
            while time.monotonic() < deadline and process.poll() is None:
                try:
                    client.get("/health")
                    break
                except httpx.TransportError:
                    time.sleep(0.1)
            assert process.poll() is None, log.read_text()
            yield client
        finally:
            process.terminate()
            process.wait(30)


def local(url: str) -> dict[str, str]:
    """Where things are outside the containers."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    return {"LABEL_STUDIO_URL": url, "REFSTAR_SERVICE_URL": f"http://127.0.0.1:{port}"}


def client() -> list[str] | None:
    for command in (["docker", "compose"], ["docker-compose"]):
        program = shutil.which(command[0])
        if program is None:
            continue
        if not subprocess.run([*command, "version"], capture_output=True, check=False).returncode:
            return command
    return None


@pytest.mark.skipif(client() is None, reason="there is no docker compose client here")
@pytest.mark.parametrize("missing", [None, *SECRETS])
def test_the_compose_client_takes_the_file_and_wants_every_secret(missing: str | None) -> None:
    given = {name: "x" for name in SECRETS if name != missing}
    command = [*(client() or ()), "-f", str(ROOT / "docker-compose.yml"), "config"]
    done = subprocess.run(
        command,
        env={"PATH": os.environ["PATH"]} | given,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode == 0) == (missing is None), done.stderr
    assert missing is None or missing in done.stderr


def test_every_setting_in_the_env_file_reaches_the_engine(compose: dict[str, Any]) -> None:
    passed = compose["services"]["engine"]["environment"]
    for name, field in Settings.model_fields.items():
        aliases = getattr(field.validation_alias, "choices", [f"REFSTAR_{name.upper()}"])
        given = [str(passed[alias]) for alias in map(str, aliases) if alias in passed]
        if name in DECIDED_BY_THE_FILE:
            assert not any(f"${{{alias}" in value for alias in map(str, aliases) for value in given)
        else:
            assert any(f"${{{alias}:" in value for alias in map(str, aliases) for value in given), (
                name
            )
    # what is not set is an empty text there
    variables = environment(compose["services"]["engine"], dict.fromkeys(SECRETS, "x"))
    ours = {k: v for k, v in variables.items() if k.startswith(("REFSTAR_", "LABEL_STUDIO_"))}
    with pytest.MonkeyPatch.context() as patch:
        for variable in [name for name in os.environ if name.startswith(("REFSTAR_", "LABEL_"))]:
            patch.delenv(variable)
        for variable, value in ours.items():
            patch.setenv(variable, value)
        assert Settings().seed == 0
        patch.setenv("REFSTAR_SEED", "7")
        assert Settings().seed == 7


def test_only_the_two_web_ports_are_published_and_to_loopback(compose: dict[str, Any]) -> None:
    published = [
        port for service in compose["services"].values() for port in service.get("ports", [])
    ]
    assert published == ["127.0.0.1:8080:8080", "127.0.0.1:9090:9090"]


def test_no_container_may_become_more_than_it_is(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        own = name == "label-studio"  # whose image says for itself who runs it
        assert own or (service["read_only"] and service["user"] not in {"root", "0", "0:0"}), name


def test_every_file_that_is_mounted_is_there(compose: dict[str, Any]) -> None:
    mounted = [
        volume.split(":")[0]
        for service in compose["services"].values()
        for volume in service.get("volumes", [])
        if volume.startswith("./")
    ]
    assert mounted
    assert all((ROOT / path).exists() for path in mounted)


@pytest.mark.parametrize("how", ['. "$0"', 'sh "$0"', 'sh <"$0"'])
@pytest.mark.parametrize("password", ["secret", None])
def test_who_makes_the_databases_goes_on_afterwards_unless_that_failed(
    how: str, password: str | None, tmp_path: Path
) -> None:
    """PostgreSQL's entrypoint reads a script that is not executable as a part of itself."""
    psql = tmp_path / "psql"
    psql.write_text("#!/bin/sh\ncat >/dev/null\n")
    psql.chmod(0o755)
    script = str(ROOT / "docs" / "deploy" / "databases.sh")
    done = subprocess.run(
        ["bash", "-Eeo", "pipefail", "-c", f'{how}; echo "went on$NOT_SET"', script],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "LABEL_STUDIO_DB_PASSWORD": "x"}
        | ({} if password is None else {"REFSTAR_DB_PASSWORD": password}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout == "went on\n") == (password is not None), done.stderr
    assert (done.returncode == 0) == (password is not None)


def test_what_waits_for_another_waits_for_one_that_ends_or_has_a_health_check(
    compose: dict[str, Any],
) -> None:
    services = compose["services"]
    for name, service in services.items():
        for awaited, how in service.get("depends_on", {}).items():
            healthy = how["condition"] == "service_healthy"
            assert healthy == ("healthcheck" in services[awaited]), (name, awaited)
            assert healthy or services[awaited]["restart"] == "no", (name, awaited)


def test_the_image_copies_what_is_there_and_leaves_out_secrets_and_faces() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert lines[0] == "**"
    let_in = {line[1:] for line in lines if line.startswith("!")}
    assert all((ROOT / name).exists() for name in let_in)
    assert let_in >= {"annotator", "dataset_engine", "migrations", "models", "restoration"}
    dockerfile = (ROOT / "Dockerfile").read_text()
    copied = re.findall(r"^COPY (.+) \./$", dockerfile, re.MULTILINE)
    assert all(name in let_in for line in copied for name in line.split())
    targets = re.findall(r"^FROM \S+ AS (\S+)$", dockerfile, re.MULTILINE)
    assert {"cpu", "cuda"} <= set(targets)
    assert targets[-1] == "cpu"


def test_label_studio_may_call_the_service_and_nothing_else_that_is_private(
    compose: dict[str, Any],
) -> None:
    given = compose["services"]["label-studio"]["environment"]["USER_ADDITIONAL_BANNED_SUBNETS"]
    banned = [ip_network(subnet) for subnet in given.split(",")]
    own = ip_network(compose["networks"]["default"]["ipam"]["config"][0]["subnet"])
    assert not [subnet for subnet in banned if subnet.version == 4 and subnet.overlaps(own)]
    private = {ip_network(subnet) for subnet in PRIVATE}
    assert private | set(ip_network("172.16.0.0/12").address_exclude(own)) <= set(banned)
    for address in ("8.8.8.8", "2606:4700::1111"):
        assert not any(ip_address(address) in subnet for subnet in banned)


def test_label_studio_is_pinned_to_the_version_that_is_tested(compose: dict[str, Any]) -> None:
    pinned = (ROOT / "constraints-label-studio.txt").read_text().splitlines()
    version = compose["services"]["label-studio"]["image"].partition(":")[2]
    assert f"label-studio=={version}" in pinned


def test_the_services_commands_are_commands_of_the_engine(compose: dict[str, Any]) -> None:
    ours = [s["command"] for s in compose["services"].values() if "command" in s]
    assert len(ours) == 4
    for name, *options in ours:
        answer = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200"})
        assert answer.exit_code == 0
        assert all(option in answer.output for option in options if option.startswith("--"))


@pytest.mark.slow
def test_the_service_and_the_status_work_with_the_files_environment(
    compose: dict[str, Any], tmp_path: Path
) -> None:
    service = compose["services"]["service"]
    secrets = dict.fromkeys(SECRETS, "x") | {"REFSTAR_WEBHOOK_SECRET": "from-the-env-file"}
    variables = environment(service, secrets) | local("http://127.0.0.1:9")
    variables["REFSTAR_HOME"] = str(tmp_path / "home")
    with serving(service, variables, tmp_path / "service.log") as client:
        assert client.get("/health").json()["status"] == "UP"
        gone = [{"id": 1}]
        event = {"action": "ANNOTATIONS_DELETED", "project": {"id": 1}, "annotations": gone}
        assert client.post("/webhook", json=event).status_code == httpx.codes.FORBIDDEN
        known = client.post(
            "/webhook", json=event, headers={SECRET_HEADER: secrets["REFSTAR_WEBHOOK_SECRET"]}
        )
        assert known.status_code == httpx.codes.ACCEPTED
        command = engine(*compose["services"]["engine"]["command"], "--json")
        done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
    assert "pairs" in json.loads(done.stdout)


@pytest.mark.slow
def test_prepare_makes_the_project_and_ends(
    compose: dict[str, Any],
    label_studio_server: LabelStudioServer,
    label_studio: LabelStudio,
    tmp_path: Path,
) -> None:
    services = compose["services"]
    secrets = dict.fromkeys(SECRETS, "x") | {
        "LABEL_STUDIO_USER_TOKEN": label_studio_server.credentials.token
    }
    # A home of its own below the folder that this Label Studio may serve files from.
    here = local(label_studio_server.url) | {
        "REFSTAR_HOME": str(label_studio_server.document_root / "team"),
        "REFSTAR_LABEL_STUDIO_PROJECT": "Prepared by compose",
    }
    with serving(
        services["service"], environment(services["service"], secrets) | here, tmp_path / "log"
    ):
        for _ in range(2):  # harmless to repeat, as the file says
            done = subprocess.run(
                engine(*services["prepare"]["command"]),
                env=environment(services["prepare"], secrets) | here,
                capture_output=True,
                text=True,
                check=False,
                timeout=300,
            )
            assert done.returncode == 0, done.stderr
    sdk = label_studio._sdk
    (project,) = sdk.projects.list(title="Prepared by compose").items or ()
    (storage,) = sdk.import_storage.local.list(project=project.id)
    assert storage.path == f"{here['REFSTAR_HOME']}/images/aligned"
    (backend,) = sdk.ml.list(project=project.id)
    assert (backend.title, backend.url) == (BACKEND_TITLE, here["REFSTAR_SERVICE_URL"])
    (hook,) = sdk.webhooks.list(project=str(project.id))
    assert hook.url == f"{here['REFSTAR_SERVICE_URL']}/webhook"
    assert hook.headers == {SECRET_HEADER: "x"}
