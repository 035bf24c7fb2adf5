from __future__ import annotations

import errno
import os
import pickle
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dataset_engine.shards import ExportBusyError, ShardError, write_version
from dataset_engine.shards.plan import Planned
from dataset_engine.shards.tar import ShardFile

KILLS = int(os.environ.get("REFSTAR_KILLS", "4"))

EXPORT = """
import pickle, sys
from pathlib import Path
from dataset_engine.shards import write_version
triplets = pickle.loads(Path(sys.argv[1]).read_bytes())
print("ready", flush=True)
write_version(triplets, Path(sys.argv[2]), max_samples_per_shard=4)
"""

FILLED_DISK = """
import pickle, shutil, sys
from pathlib import Path
from dataset_engine.shards import ShardError, write_version
triplets, out = pickle.loads(Path(sys.argv[1]).read_bytes()), Path(sys.argv[2])
filler = out.with_name("filler")

def fill(what, done, total):
    if what == "writing shards" and done >= 8 and not filler.exists():
        with filler.open("wb", buffering=0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError:
                pass

try:
    write_version(triplets, out, max_samples_per_shard=4, progress=fill)
except ShardError as error:
    print(error)
left = [path for path in out.rglob("*") if path.suffix == ".tmp" or path.name in ("v001", "latest")]
print(left)
filler.unlink()
print(write_version(triplets, out, max_samples_per_shard=4).resumed)
shutil.copytree(out, sys.argv[3])
"""

HOLD = """
import sys, time
from pathlib import Path
from dataset_engine.shards.files import export_lock
with export_lock(Path(sys.argv[1])):
    print("ready", flush=True)
    time.sleep(600)
"""


def start(program: str, *arguments: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    return process


def stop(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


@pytest.mark.slow
def test_a_killed_export_is_resumed_to_the_same_bytes(triplets, tmp_path, tree):
    made = triplets(60)
    old = tmp_path / "old"
    write_version(made[:20], old, max_samples_per_shard=4)
    state = tmp_path / "state.pickle"
    state.write_bytes(pickle.dumps(made))
    undisturbed = tmp_path / "undisturbed"
    shutil.copytree(old, undisturbed)
    process = start(EXPORT, state, undisturbed)
    began = time.perf_counter()
    assert process.wait() == 0
    process.stdout.close()
    whole = time.perf_counter() - began
    expected, before = tree(undisturbed), tree(old)
    assert "v002/manifest.json" in expected
    seed = random.SystemRandom().randrange(2**32)
    moments = random.Random(seed)
    for number in range(KILLS):
        out = tmp_path / f"killed-{number}"
        shutil.copytree(old, out)
        moment = moments.uniform(0, whole)
        process = start(EXPORT, state, out)
        time.sleep(moment)
        stop(process)
        left = tree(out)
        assert {name: left[name] for name in before if name != "latest"} == {
            name: data for name, data in before.items() if name != "latest"
        }
        write_version(made, out, max_samples_per_shard=4)
        assert tree(out) == expected, f"seed {seed}, kill {number} after {moment:.3f} s"
        shutil.rmtree(out)


def test_a_resumed_export_redoes_only_what_is_missing(triplets, tmp_path, tree, monkeypatch):
    made = triplets(20)
    write_version(made, tmp_path / "whole", max_samples_per_shard=4)
    add = ShardFile.add
    left = [14]

    def fail_late(self: ShardFile, *arguments: object) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        add(self, *arguments)

    monkeypatch.setattr(ShardFile, "add", fail_late)
    with pytest.raises(
        ShardError, match=r"No space left.*Free some space.*finished shards are kept"
    ):
        write_version(made, tmp_path / "out", max_samples_per_shard=4)
    assert not (tmp_path / "out/latest").exists()
    assert not list((tmp_path / "out").rglob("*.tmp"))
    monkeypatch.setattr(ShardFile, "add", add)
    report = write_version(made, tmp_path / "out", max_samples_per_shard=4)
    assert (report.resumed, report.written) == (3, 2)
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_a_file_that_may_not_grow_any_further_ends_the_export_clearly(triplets, tmp_path, tree):
    made = triplets(20)
    state = tmp_path / "state.pickle"
    state.write_bytes(pickle.dumps(made))
    limit = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (60000, 60000))\n"
    command = [sys.executable, "-c", limit + EXPORT, str(state), str(tmp_path / "out")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "refsel-hq-000000.tar: File too large. Free some space and run the" in ended.stderr
    assert not (tmp_path / "out/v001").exists()
    assert not (tmp_path / "out/latest").exists()
    assert not list((tmp_path / "out").rglob("*.tmp"))
    write_version(made, tmp_path / "out", max_samples_per_shard=4)
    write_version(made, tmp_path / "whole", max_samples_per_shard=4)
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_a_disk_that_somebody_else_fills_ends_the_export_clearly(triplets, tmp_path, tree):
    made = triplets(20)
    state, disk = tmp_path / "state.pickle", tmp_path / "disk"
    state.write_bytes(pickle.dumps(made))
    disk.mkdir()
    # a disk of 8 MB in a name space of its own; a kernel that allows none leaves this to the test above
    rootless = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    mount = 'mount -t tmpfs -o size=8m none "$0" && exec "$@"'
    command = ["unshare", *rootless, "--mount", "sh", "-c", mount, str(disk)]
    if not shutil.which("unshare") or subprocess.run([*command, "true"], check=False).returncode:
        pytest.skip("no disk can be mounted here")
    result = tmp_path / "result"
    command += [sys.executable, "-c", FILLED_DISK, str(state), str(disk / "out"), str(result)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    error, visible, resumed = ended.stdout.splitlines()
    assert re.search(r"/out/\S+: No space left on device\. Free some space and run", error)
    assert "finished shards are kept" in error
    assert visible == "[]"
    assert int(resumed) > 0
    write_version(made, tmp_path / "whole", max_samples_per_shard=4)
    assert tree(result) == tree(tmp_path / "whole")


def test_what_cannot_fit_is_refused_before_writing(triplets, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ShardError, match="the disk has 1000 left"):
        write_version(triplets(5), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_leftovers_of_another_state_do_not_get_into_the_version(
    triplets, tmp_path, tree, monkeypatch
):
    made = triplets(20)
    monkeypatch.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(OSError(5, "I/O error")))
    with pytest.raises(ShardError, match="I/O error"):
        write_version(made, tmp_path / "out", max_samples_per_shard=2)
    monkeypatch.undo()
    write_version(made[:7], tmp_path / "out", max_samples_per_shard=2)
    write_version(made[:7], tmp_path / "whole", max_samples_per_shard=2)
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_a_second_export_at_once_is_told_who_holds_the_folder(triplets, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    process = start(HOLD, out)
    try:
        with pytest.raises(ExportBusyError, match=rf"process {process.pid} on"):
            write_version(triplets(2), out)
    finally:
        stop(process)
    assert (out / ".export.lock").exists()
    assert write_version(triplets(2), out).created
    assert not (out / ".export.lock").exists()


def test_a_version_that_the_pointer_missed_is_pointed_to(triplets, tmp_path):
    made = triplets(4)
    write_version(made, tmp_path / "out")
    (tmp_path / "out/latest").unlink()
    assert not write_version(made, tmp_path / "out").created
    assert (tmp_path / "out/latest").read_text() == "v001\n"


@pytest.mark.parametrize("how", ["rewritten", "removed"])
def test_a_file_that_changes_meanwhile_is_not_exported(triplets, tmp_path, monkeypatch, how):
    made = triplets(4)
    members = Planned.members

    def touch(self: Planned) -> dict[str, bytes]:
        if self.key == made[2].key:
            made[2].gt.unlink()
            if how == "rewritten":
                made[2].gt.write_bytes(made[0].gt.read_bytes())
        return members(self)

    monkeypatch.setattr(Planned, "members", touch)
    with pytest.raises(ShardError, match=f"{made[2].key}: one of its files changed"):
        write_version(made, tmp_path / "out")
    assert not (tmp_path / "out/v001").exists()
