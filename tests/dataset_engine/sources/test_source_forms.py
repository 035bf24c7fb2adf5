"""What a source is can be seen in it, and where it cannot, everything that was looked for is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dataset_engine.ingest import ingest
from dataset_engine.settings import Settings
from dataset_engine.sources.detection import detect
from dataset_engine.sources.form import Form
from dataset_engine.store import Store

Put = Callable[..., Path]


def test_each_form_is_told_by_what_lies_in_it(put: Put, tmp_path: Path) -> None:
    put("people/0001/a.jpg", 1)
    put("celeba/identity_CelebA.txt", "")
    put("official/Anno/identity_CelebA.txt", "")
    put("real/LQ/a.jpg", 1)
    put("real/Reference/a.jpg", 2)
    put("other/lq/a.jpg", 1)
    put("other/ref/a.jpg", 2)
    put("pairs.csv", "gt,reference\n")
    assert {
        name: detect(tmp_path / name)
        for name in ("people", "celeba", "official", "real", "other", "pairs.csv")
    } == {
        "people": Form.IDENTITIES,
        "celeba": Form.CELEBA,
        "official": Form.CELEBA,
        "real": Form.INPUTS,
        "other": Form.INPUTS,
        "pairs.csv": Form.PAIRS,
    }


@pytest.mark.parametrize("name", ["absent", "empty", "flat"])
def test_where_nothing_fits_everything_that_was_looked_for_is_named(
    put: Put, tmp_path: Path, name: str
) -> None:
    (tmp_path / "empty").mkdir()
    put("flat/a.jpg", 1)
    with pytest.raises(NotADirectoryError) as caught:
        detect(tmp_path / name)
    for form in (name, "IDENTITY/IMAGE", "identity_CelebA.txt", "LQ/", "ref/", "CSV", "reference"):
        assert form in str(caught.value)


@pytest.mark.parametrize(
    ("form", "words"),
    [
        (Form.CELEBA, "identity_CelebA.txt"),
        (Form.INPUTS, "LQ and ref"),
        (Form.IDENTITIES, "IDENTITY/IMAGE"),
        (Form.PAIRS, "CSV"),
    ],
)
def test_a_form_that_is_said_and_not_there_is_an_error(
    store: Store, settings: Settings, tmp_path: Path, form: Form, words: str
) -> None:
    (tmp_path / "source").mkdir()
    with pytest.raises(NotADirectoryError, match=words):
        ingest(store, settings, tmp_path / "source", form=form)


@pytest.mark.usefixtures("cheap_faces")
def test_people_whose_folders_have_the_names_of_another_form_come_in_when_it_is_said(
    store: Store, settings: Settings, put: Put, tmp_path: Path
) -> None:
    for number, name in enumerate(("lq/a", "lq/b", "ref/a", "ref/b")):
        put(f"people/{name}.jpg", number)
    report = ingest(store, settings, tmp_path / "people", form=Form.IDENTITIES, workers=1)
    assert (report.added, report.pairs, report.inputs) == (4, 4, 0)
