"""A CSV of pairs: exactly its pairs are made, and a bad row is told by its line."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import select

from dataset_engine.faces.prepare import Reason
from dataset_engine.ingest import ingest
from dataset_engine.ingest_files import Left
from dataset_engine.settings import Settings
from dataset_engine.sources import pair_list
from dataset_engine.sources.pair_table import PairTableError, Row, read_rows
from dataset_engine.store import Store
from dataset_engine.store.tables import Identity, Image, Pair, SetAsideFile
from dataset_engine.taxonomy import Split

Put = Callable[..., Path]
pytestmark = pytest.mark.usefixtures("cheap_faces")


def made(store: Store) -> dict[tuple[str, str], str]:
    """The identity of each pair, by the names of its ground truth and reference."""
    with store.reading() as session:
        return {
            (pair.gt.name, pair.ref.name): pair.identity.name
            for pair in session.scalars(select(Pair))
        }


def reasons_by_line(report: object) -> dict[int, str]:
    return {int(left.file.rpartition(":")[2]): left.reason for left in report.left}  # type: ignore[attr-defined]


def test_exactly_the_pairs_of_the_file_are_made(store: Store, settings: Settings, put: Put) -> None:
    for number, name in enumerate(("a", "b", "c", "d", "e")):
        put(f"set/{name}.jpg", number)
    table = put(
        "set/pairs.csv",
        "reference,gt,identity,split\n"
        "a.jpg,b.jpg,ann,test\n"
        "a.jpg,c.jpg,ann,\n"
        "./d.jpg,sub/../e.jpg,ben,train\n",
    )
    report = ingest(store, settings, table, workers=1)
    assert (report.added, report.pairs, report.left) == (5, 3, [])
    assert made(store) == {
        ("b.jpg", "a.jpg"): "ann",
        ("c.jpg", "a.jpg"): "ann",
        ("e.jpg", "d.jpg"): "ben",
    }
    with store.reading() as session:
        people = session.execute(select(Identity.name, Identity.split, Identity.source)).all()
    assert set(map(tuple, people)) == {("ann", Split.TEST, "pairs"), ("ben", Split.TRAIN, "pairs")}


def test_without_identities_rows_that_share_a_picture_are_of_one_person(
    store: Store, settings: Settings, put: Put
) -> None:
    for number, name in enumerate("abcdef"):
        put(f"{name}.jpg", number)
    table = put("p.csv", "gt,reference\na.jpg,b.jpg\nc.jpg,d.jpg\nb.jpg,e.jpg\nb.jpg,c.jpg\n")
    report = ingest(store, settings, table, workers=1)
    assert made(store) == {
        ("a.jpg", "b.jpg"): "a.jpg",
        ("c.jpg", "d.jpg"): "c.jpg",
        ("b.jpg", "e.jpg"): "a.jpg",
    }
    assert reasons_by_line(report) == {5: "two_identities"}
    assert "of a.jpg and of c.jpg" in report.left[0].detail


def test_a_second_run_adds_nothing_and_new_rows_only_add(
    store: Store, settings: Settings, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pair_list, "REMEMBERED", 2)
    for number in range(12):
        put(f"{number}.jpg", number)
    rows = "".join(f"{n}.jpg,{n + 1}.jpg\n" for n in range(0, 10, 2))
    table = put("p.csv", f"gt,reference\n{rows}")
    first = ingest(store, settings, table, workers=1)
    assert (first.added, first.pairs) == (10, 5)
    again = ingest(store, settings, table, workers=1)
    assert (again.added, again.pairs, again.left) == (0, 0, [])
    assert again.notes == ["5 pairs were in the store already"]
    put("p.csv", f"gt,reference\n{rows}0.jpg,11.jpg\n1.jpg,0.jpg\n")
    more = ingest(store, settings, table, workers=1)
    assert (more.added, more.pairs) == (1, 2)


def test_pictures_of_a_source_that_came_before_are_used_as_they_are(
    store: Store, settings: Settings, put: Put, tmp_path: Path
) -> None:
    for number, name in enumerate(("ann/0", "ann/1", "ben/0", "ben/1")):
        put(f"people/{name}.jpg", number)
    ingest(store, settings, tmp_path / "people", pairs_per_identity=1, workers=1)
    before = made(store)
    table = put(
        "people/p.csv",
        "gt,reference,identity\n"
        "ann/0.jpg,ann/1.jpg,\nann/1.jpg,ann/0.jpg,\n"
        "ben/0.jpg,ben/1.jpg,somebody\n"
        "ann/0.jpg,ben/0.jpg,\n",
    )
    report = ingest(store, settings, table, workers=1)
    assert (report.added, report.pairs) == (0, 1)
    assert len(made(store)) == len(before) + 1
    assert reasons_by_line(report) == {4: "two_identities", 5: "two_identities"}
    assert "people/ben already" in report.left[0].detail


def test_bad_rows_are_set_aside_by_their_line_and_counted(
    store: Store, settings: Settings, put: Put, tmp_path: Path
) -> None:
    for number, name in enumerate("abcd"):
        put(f"set/{name}.jpg", number)
    put("set/blurred.jpg", Reason.BLURRED)
    put("set/copy.jpg", 0)
    put("outside.jpg", 9)
    (tmp_path / "set" / "link.jpg").symlink_to(tmp_path / "outside.jpg")
    rows = [
        "a.jpg,b.jpg,ann,test",  # line 2
        "a.jpg,a.jpg,ann,test",
        "a.jpg,../outside.jpg,ann,test",
        "a.jpg,link.jpg,ann,test",
        "a.jpg,absent.jpg,ann,test",
        "a.jpg,blurred.jpg,ann,test",
        ",b.jpg,ann,test",
        "a.jpg,b.jpg",
        "a.jpg,b.jpg,ann,test,more",
        "c.jpg,d.jpg,ann,holiday",
        "c.jpg,d.jpg,ann,train",
        "a.jpg,copy.jpg,ann,test",
        f"c.jpg,{'x' * 5000}.jpg,ann,test",
        f"c.jpg,{tmp_path}/set/d.jpg,ann,test",
        f"c.jpg,d.jpg,{'n' * 256},test",
        "",
        "c.jpg,d.jpg,ann,Test",  # line 18
    ]
    table = put("set/p.csv", "gt,reference,identity,split\n" + "\n".join(rows))
    report = ingest(store, settings, table, workers=1)
    assert set(made(store)) == {("a.jpg", "b.jpg"), ("c.jpg", "d.jpg")}
    assert reasons_by_line(report) == {
        3: "bad_row",
        4: "outside_folder",
        5: "outside_folder",
        6: "unreadable",
        7: "blurred",
        8: "bad_row",
        9: "bad_row",
        10: "bad_row",
        11: "bad_row",
        12: "split_differs",
        13: "duplicate",
        14: "unreadable",
        15: "bad_row",
        16: "bad_row",
    }
    assert report.reasons.total() == 14
    details = {left.file: left.detail for left in report.left}
    assert "line 11: split 'holiday'" in details[f"{table}:11"]
    assert "blurred.jpg: it is blurred" in details[f"{table}:7"]
    put("set/p.csv", "gt,reference\na.jpg,b.jpg\n")  # mended: nothing of the file stays set aside
    assert ingest(store, settings, table, workers=1).report is None
    with store.reading() as session:
        assert session.scalars(select(SetAsideFile)).all() == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "lacks gt and reference"),
        ("gt,ref\na,b\n", "lacks reference"),
        ("gt,reference,identiy\n", "'identiy' is unknown"),
        ("gt,reference,gt\n", "there twice"),
        ("\0\xff", "lacks gt and reference"),
    ],
)
def test_a_header_that_is_not_right_is_one_error_that_names_the_columns(
    store: Store, settings: Settings, put: Put, text: str, words: str
) -> None:
    table = put("p.csv", text)
    with pytest.raises(PairTableError, match=words) as caught:
        ingest(store, settings, table, workers=1)
    assert "gt, reference" in str(caught.value)
    assert "identity, split" in str(caught.value)
    assert str(table) in str(caught.value)


def test_a_byte_order_mark_capitals_and_quotes_are_no_trouble(
    store: Store, settings: Settings, put: Put
) -> None:
    put("a, b.jpg", 1)
    put("c.jpg", 2)
    table = put("p.csv", '\ufeffGT, Reference \r\n"a, b.jpg",c.jpg\r\n')
    assert ingest(store, settings, table, workers=1).pairs == 1


def test_a_picture_that_fails_is_prepared_once_for_the_rows_around_it(
    store: Store, settings: Settings, put: Put
) -> None:
    put("bad.jpg", Reason.NO_FACE)
    for number in range(6):
        put(f"{number}.jpg", number)
    rows = "".join(f"bad.jpg,{n}.jpg\n" for n in range(6))
    report = ingest(store, settings, put("p.csv", f"gt,reference\n{rows}"), workers=1)
    assert (report.added, report.pairs, dict(report.reasons)) == (0, 0, {"no_face": 6})
    with store.reading() as session:  # the references alone make no pair, and are not kept
        assert session.scalars(select(Image)).all() == []


CASES = int(os.environ.get("REFSTAR_FUZZ_CASES", "80"))
"""Files; `make fuzz` sets it to 10,000."""
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)
CELLS = st.lists(
    st.one_of(TEXT, st.sampled_from(["a.jpg", "b.jpg", "test", ".", ".."])), max_size=6
)


@given(st.one_of(st.binary(max_size=300), TEXT.map(str.encode)), st.booleans())
@example(b'a.jpg,"b.jpg\n' + b"x" * 200_000, True)
@example(b"a" * 70_000 + b",b.jpg\n", True)
@example(b"a.jpg,b.jpg,\r\r\r\n\0\0,\0\n", True)
@hypothesis_settings(
    max_examples=CASES, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
def test_whatever_the_file_holds_it_is_rows_or_set_aside_or_no_table(
    data: bytes, with_header: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "p.csv"
        path.write_bytes((b"gt,reference,identity,split\n" if with_header else b"") + data)
        try:
            rows = list(read_rows(path))
        except PairTableError:
            return
        assert all(isinstance(row, Row | Left) for row in rows)


@given(st.lists(CELLS, max_size=5))
@hypothesis_settings(
    max_examples=CASES // 3,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_whatever_the_rows_say_ingest_ends_and_makes_pairs_of_two_images_only(
    store: Store, settings: Settings, put: Put, rows: list[list[str]]
) -> None:
    for number, name in enumerate("ab"):
        put(f"{name}.jpg", number)
    lines = "\n".join(",".join(row) for row in rows)
    table = put("p.csv", f"gt,reference,identity\n{lines}\n")
    report = ingest(store, settings, table, workers=1)
    assert all(left.file.startswith(f"{table}:") for left in report.left)
    assert set(made(store)) <= {("a.jpg", "b.jpg"), ("b.jpg", "a.jpg")}
