"""A full disk ends what is being done with one clear line, and costs nothing that was done before."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import event, func, select
from sqlalchemy.exc import OperationalError

from dataset_engine.error_lines import error_line
from dataset_engine.settings import Settings
from dataset_engine.store import Store
from dataset_engine.store.proposals import NewProposal, add_proposals
from dataset_engine.store.reviews import rebuild
from dataset_engine.store.tables import Pair, Proposal

PROPOSE_UNTIL_FULL = """
import os, sys
from pathlib import Path
import numpy as np
from dataset_engine.error_lines import error_line
from dataset_engine.settings import Settings
from dataset_engine.store import Store
from dataset_engine.store.proposals import NewProposal, add_proposals

settings = Settings(home=Path(sys.argv[1]))
random = np.random.default_rng(0)
done = 0
filler = settings.home / "filler"
with Store(settings) as store:
    try:
        while True:
            mask = random.random((512, 512)) < 0.5
            done += add_proposals(store, f"unet-r{done}", 1, [NewProposal(1, mask, 0.5)])
            if done == 3:  # somebody else fills the disk
                with filler.open("wb", buffering=0) as file:
                    try:
                        while file.write(bytes(4096)):
                            pass
                    except OSError:
                        pass
    except Exception as error:
        print(error_line(error, settings))
    filler.unlink()
    left = [path for path in settings.home.rglob("*.tmp")]
    again = add_proposals(store, "later", 1, [NewProposal(1, mask, 0.5)])
    from sqlalchemy import func, select
    from dataset_engine.store.tables import Proposal
    with store.reading() as session:
        kept = session.scalar(select(func.count(Proposal.id)))
print(done, again, kept, len(left))
"""


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file grow beyond ``size`` bytes, which the kernel refuses like a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def noise(seed: int = 0) -> Any:
    return np.random.default_rng(seed).random((512, 512)) < 0.5


def kept(store: Store) -> tuple[int, int]:
    with store.reading() as session:
        proposals = session.scalar(select(func.count(Proposal.id))) or 0
        return proposals, session.scalar(select(func.count(Pair.id))) or 0


def test_a_full_database_is_one_line_and_loses_nothing(
    store: Store, settings: Settings, fill: Callable[..., None]
) -> None:
    fill(identities=2)
    add_proposals(store, "unet-r1", 1, [NewProposal(1, noise(), 0.5)])
    limit = [1]  # SQLite takes its present size, if that is more
    done = [1]

    def full(connection: Any) -> None:
        connection.exec_driver_sql(f"PRAGMA max_page_count = {limit[0]}")

    def propose_for_ever() -> None:
        for number in range(1000):
            done[0] += add_proposals(store, f"{number:050}", 2, [NewProposal(2, noise(), 0.5)])

    event.listen(store.engine, "begin", full)
    with pytest.raises(OperationalError) as caught:
        propose_for_ever()
    line = error_line(caught.value, settings)
    assert line is not None
    assert line.startswith(f"the database {settings.home}/refstar.sqlite: ")
    assert "is full: free some space, then run this again" in line
    assert "\n" not in line
    assert kept(store)[0] == done[0]
    limit[0] = 2**30
    assert add_proposals(store, "unet-r3", 3, [NewProposal(2, noise(), 0.5)]) == 1
    assert rebuild(store, [1, 2, 3, 4]) == 0


def test_a_mask_that_cannot_be_written_is_named_and_recorded_nowhere(
    store: Store, settings: Settings, fill: Callable[..., None]
) -> None:
    fill(identities=2)
    before = kept(store)
    files = sorted(settings.home.rglob("*"))
    with largest_file(1000), pytest.raises(OSError, match="File too large") as caught:
        add_proposals(store, "unet-r1", 1, [NewProposal(1, noise(), 0.5)])
    line = error_line(caught.value, settings)
    assert line is not None
    assert line.startswith(f"{store.masks.root}/")
    assert ".png: File too large: free some space, then run this again" in line
    assert kept(store) == before
    assert [path for path in sorted(settings.home.rglob("*")) if path.is_file()] == [
        path for path in files if path.is_file()
    ]
    assert add_proposals(store, "unet-r1", 1, [NewProposal(1, noise(), 0.5)]) == 1


def small_disk(folder: Path, megabytes: int) -> list[str]:
    """The beginning of a command that runs with a disk of this size at ``folder``.

    It is mounted in a name space of its own; where the kernel allows no such thing, the test is left
    out, and the ones with a limit on files remain.
    """
    rootless = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    mount = f"mount -t tmpfs -o size={megabytes}m none '{folder}' && exec \"$@\""
    command = ["unshare", *rootless, "--mount", "sh", "-c", mount, "sh"]
    if not shutil.which("unshare") or subprocess.run([*command, "true"], check=False).returncode:
        pytest.skip("no disk can be mounted here")
    return command


def test_a_disk_that_somebody_else_fills_is_one_line_and_loses_nothing(
    store: Store, fill: Callable[..., None], tmp_path: Path
) -> None:
    fill(identities=1)
    store.close()
    disk = tmp_path / "disk"
    disk.mkdir()
    command = [*small_disk(disk, 4), "sh", "-c", 'cp -r "$1"/. "$2" && exec "$3" -c "$4" "$2"']
    ended = subprocess.run(
        [*command, "sh", str(store.home), str(disk), sys.executable, PROPOSE_UNTIL_FULL],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    line, counts = ended.stdout.splitlines()
    assert str(disk) in line
    assert "free some space, then run this again" in line
    done, again, in_database, temporary = map(int, counts.split())
    assert (done, again, in_database, temporary) == (3, 1, 4, 0)
