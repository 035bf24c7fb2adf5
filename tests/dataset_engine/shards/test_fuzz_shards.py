"""Whatever a published set's files hold, reading it ends in samples, in set-asides, or in one error.

``REFSTAR_FUZZ_CASES`` sets the number of damaged sets; `make fuzz` sets it to 10,000.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from dataset_engine.shards import RefSelShards, ShardError, write_version
from dataset_engine.shards.importing import read_published
from dataset_engine.shards.triplet import Triplet
from dataset_engine.shards.verification import verify
from dataset_engine.taxonomy import Split

CASES = int(os.environ.get("REFSTAR_FUZZ_CASES", "60"))

ODD = st.sampled_from(
    [None, True, -1, 0, 2**70, 1e308, "", "\ud800", "../x", "a.b", "é", [], {}, [[[]]], "a" * 300]
)


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """Bytes with some changed, cut out or put in."""
    changed = bytearray(data)
    for _ in range(draw(st.integers(1, 3))):
        # headers and the heads of files matter most
        at = draw(st.integers(0, min(len(changed), 700)) | st.integers(0, len(changed)))
        how = draw(st.sampled_from(["set", "cut", "put", "end"]))
        if how == "set":
            new = draw(st.binary(min_size=1, max_size=8))
            changed[at : at + len(new)] = new
        elif how == "cut":
            del changed[at : at + draw(st.integers(1, 600))]
        elif how == "put":
            changed[at:at] = draw(st.binary(min_size=1, max_size=8))
        else:
            del changed[at:]
    return bytes(changed)


@st.composite
def other_values(draw: st.DrawFn, value: Any) -> Any:
    """A JSON value in which some part is another one."""
    if isinstance(value, dict) and value and draw(st.integers(0, 9)):
        key = draw(st.sampled_from(sorted(value)))
        if draw(st.booleans()) and not isinstance(value[key], dict | list):
            return {k: v for k, v in value.items() if k != key}
        return {**value, key: draw(other_values(value[key]))}
    if isinstance(value, list) and value and draw(st.integers(0, 9)):
        at = draw(st.integers(0, len(value) - 1))
        return [*value[:at], draw(other_values(value[at])), *value[at + 1 :]]
    if isinstance(value, int) and not isinstance(value, bool) and draw(st.booleans()):
        return draw(st.integers(-600, 2**40))
    return draw(ODD)


def other_index(draw: st.DrawFn, data: bytes) -> bytes:
    """An index in its own layout, with another value somewhere."""
    head, *lines, end = data.splitlines(keepends=True)
    at = draw(st.integers(0, len(lines) - 1))
    line = lines[at].rstrip(b",\n")
    new = json.dumps(draw(other_values(json.loads(line)))).encode()
    lines[at] = lines[at].replace(line, new)
    return b"".join([head, *lines, end])


@st.composite
def cases(draw: st.DrawFn, files: dict[str, bytes]) -> tuple[str, bytes, bool]:
    """A file, what it holds instead, and whether the manifest's digest of the index is corrected."""
    name = draw(st.sampled_from(sorted(files)))
    honest = draw(st.booleans())
    if name.endswith("index.json") and draw(st.booleans()):
        return name, other_index(draw, files[name]), honest
    if name.endswith("manifest.json") and draw(st.booleans()):
        value = draw(other_values(json.loads(files[name])))
        return name, json.dumps(value).encode(), honest
    return name, draw(damaged(files[name])), honest


def read_all(out: Path) -> set[str]:
    """Read a set in each way that there is; gives how that ended."""
    ends = set()
    left: list[object] = []
    try:
        for one in read_published(out, set_aside=left.append):
            assert one.triplet.key
            ends.add("sample")
    except ShardError:
        ends.add("error")
    if left:
        ends.add("set aside")
    try:
        ends.add("sound" if verify(out).sound else "unsound")
    except ShardError:
        ends.add("error")
    try:
        for split in Split:
            samples = RefSelShards(out, split, verify=True)
            for at in range(len(samples)):
                samples.raw(at)
                samples.identity(at)
    except ShardError:
        ends.add("error")
    return ends


def test_whatever_a_set_holds_it_is_read_or_refused(
    triplets: Callable[..., list[Triplet]], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    write_version(triplets(2), out)
    files = {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.suffix in (".tar", ".json", "")
    }
    files = {name: data for name, data in files.items() if "lock" not in name}
    assert any(name.endswith(".tar") for name in files)
    manifest = next(name for name in files if name.endswith("manifest.json"))
    assert read_all(out) == {"sample", "sound"}
    seen: set[str] = set()

    def write(name: str, data: bytes) -> None:
        path = out / name
        path.unlink()  # files of a version are read-only
        path.write_bytes(data)

    @hypothesis_settings(
        max_examples=CASES,
        deadline=None,
        database=None,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )
    @given(cases(files))
    def one(case: tuple[str, bytes, bool]) -> None:
        name, data, honest = case
        write(name, data)
        if honest and name.endswith("index.json"):
            told = json.loads(files[manifest])
            told["files"]["index.json"] = hashlib.sha256(data).hexdigest()
            write(manifest, json.dumps(told).encode())
        try:
            seen.update(read_all(out))
        finally:
            write(name, files[name])
            write(manifest, files[manifest])

    one()
    rare = {"set aside"} if CASES >= 1000 else set()  # a short run may do without by chance
    assert {"error", "unsound"} | rare <= seen
    assert read_all(out) == {"sample", "sound"}
