"""Celeb-Ref-Test: so many identities, one ground truth and one reference each, drawn by the seed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select

from dataset_engine.faces.prepare import Reason
from dataset_engine.ingest import ingest
from dataset_engine.settings import Settings
from dataset_engine.store import Store
from dataset_engine.store.pairs import LAST, add_identities
from dataset_engine.store.tables import Identity, Image, Pair
from dataset_engine.taxonomy import Split

Put = Callable[..., Path]
pytestmark = pytest.mark.usefixtures("cheap_faces")


def celeba(
    put: Put,
    images: dict[str, list[object]],
    listed: str = "celeba/identity_CelebA.txt",
    place: str = "celeba/img_celeba/{}.jpg",
) -> Path:
    """A CelebA in small: for each identity what its images hold; None for one that is not there."""
    lines: list[str] = []
    for identity, contents in images.items():
        for content in contents:
            name = f"{len(lines) + 1:06d}"
            lines.append(f"{name}.jpg {identity}\n")
            if content is not None:
                put(place.format(name), content)
    put(listed, "".join(lines))
    return put("celeba/note.txt", "").parent


def people(count: int, each: int = 4) -> dict[str, list[object]]:
    return {
        str(2000 + number): [100 * number + shot for shot in range(each)] for number in range(count)
    }


def drawn(store: Store) -> dict[str, tuple[str, str]]:
    """The names of each identity's ground truth and reference."""
    with store.reading() as session:
        query = select(Pair).join(Identity, Identity.id == Pair.identity_id)
        return {
            pair.identity.name: (pair.gt.name, pair.ref.name) for pair in session.scalars(query)
        }


def test_so_many_identities_have_one_pair_each_and_are_in_the_test_split(
    store: Store, settings: Settings, put: Put
) -> None:
    folder = celeba(put, people(9))
    report = ingest(store, settings, folder, identities=6, workers=1)
    assert (report.pairs, report.added, dict(report.reasons)) == (6, 12, {})
    assert report.notes == []
    pairs = drawn(store)
    assert len(pairs) == 6
    with store.reading() as session:
        rows = session.execute(select(Identity.split, Identity.split_given, Identity.source)).all()
        assert set(map(tuple, rows)) == {(Split.TEST, True, "celeba")}
        for pair in session.scalars(select(Pair)):
            assert pair.gt.identity_id == pair.ref.identity_id == pair.identity_id
            assert LAST <= pair.position < LAST + 1


def test_the_seed_alone_decides_who_and_which(
    store: Store, settings: Settings, put: Put, tmp_path: Path
) -> None:
    folder = celeba(put, people(9))
    ingest(store, settings, folder, identities=5, workers=1)
    others = []
    for name, seed in (("same", 0), ("another", 1)):
        given = Settings(home=tmp_path / name, seed=seed)
        with Store(given) as store_:
            ingest(store_, given, folder, identities=5, workers=1)
            others.append(drawn(store_))
    assert others[0] == drawn(store)
    assert others[1] != drawn(store)


def test_images_that_cannot_be_used_are_passed_over_and_so_are_identities_with_too_few(
    store: Store, settings: Settings, put: Put
) -> None:
    images = people(8)
    images["2001"] = [101, Reason.BLURRED, Reason.NO_FACE, Reason.BLURRED]
    images["2002"] = [Reason.NO_FACE] * 3
    images["2003"] = [301, None, None]
    images["2004"] = [401, 401, 401]
    images["2005"] = [Reason.BLURRED, Reason.BLURRED, 501, 502]
    folder = celeba(put, images)
    report = ingest(store, settings, folder, identities=4, workers=1)
    assert set(drawn(store)) == {"2000", "2005", "2006", "2007"}
    assert report.pairs == 4
    assert report.notes == []
    more = ingest(store, settings, folder, identities=8, workers=1)
    assert (more.pairs, more.known) == (0, 8)
    assert more.reasons["too_few_images"] == 4
    assert more.notes == ["only 4 of 8 identities have two images that can be used"]
    left = next(left for left in more.left if left.file.endswith(":2003"))
    assert "identity 2003 has 1 images here" in left.detail
    with store.reading() as session:  # who takes no part leaves nothing
        assert len(session.scalars(select(Identity)).all()) == 4
        assert len(session.scalars(select(Image)).all()) == 8


def test_a_second_run_adds_nothing_and_a_larger_count_only_adds(
    store: Store, settings: Settings, put: Put
) -> None:
    folder = celeba(put, people(9))
    ingest(store, settings, folder, identities=4, workers=1)
    before = drawn(store)
    again = ingest(store, settings, folder, identities=4, workers=1)
    assert (again.added, again.pairs, again.known) == (0, 0, 8)
    steps: list[tuple[int, int | None]] = []
    more = ingest(
        store, settings, folder, identities=7, workers=1, progress=lambda *s: steps.append(s)
    )
    assert (more.added, more.pairs, more.known) == (6, 3, 8)
    assert steps == [(done, 7) for done in range(4, 8)]
    assert before.items() <= drawn(store).items()


def test_the_next_identity_in_the_order_takes_the_place_of_one_that_fails(
    store: Store, settings: Settings, put: Put, tmp_path: Path
) -> None:
    images = people(9)
    ingest(store, settings, celeba(put, images), identities=5, workers=1)
    order = list(drawn(store))
    failing = order[1]
    images[failing] = [Reason.BLURRED] * 4
    given = Settings(home=tmp_path / "second")
    with Store(given) as second:
        ingest(second, given, celeba(put, images), identities=5, workers=1)
        (instead,) = set(drawn(second)) - set(order)
        assert set(order) - set(drawn(second)) == {failing}
    given = Settings(home=tmp_path / "third")
    with Store(given) as third:
        ingest(third, given, celeba(put, people(9)), identities=6, workers=1)
        assert set(drawn(third)) - set(order) == {instead}


@pytest.mark.parametrize(
    ("listed", "place"),
    [
        ("celeba/identity_CelebA.txt", "celeba/{}.jpg"),
        ("celeba/identity_CelebA.txt", "celeba/img_align_celeba_png/{}.png"),
        ("celeba/identity_CelebA.txt", "celeba/img_align_celeba/{}.jpg"),
        ("celeba/Anno/identity_CelebA.txt", "celeba/Img/img_celeba/{}.jpg"),
    ],
)
def test_the_images_are_found_where_celeba_has_them(
    store: Store, settings: Settings, put: Put, listed: str, place: str
) -> None:
    folder = celeba(put, people(3), listed, place)
    assert ingest(store, settings, folder, identities=3, workers=1).pairs == 3


def test_celeba_hq_is_read_by_its_mapping(store: Store, settings: Settings, put: Put) -> None:
    folder = celeba(put, people(3, each=3), place="celeba/elsewhere/{}.jpg")
    mapping = "idx        orig_idx   orig_file\n"
    for number, original in enumerate((1, 3, 5, 6, 9)):  # two of the first two identities
        mapping += f"{number}          {original - 1}     {original:06d}.jpg\n"
        put(f"celeba/CelebA-HQ-img/{number}.jpg", 7000 + number)
    put("celeba/CelebA-HQ-to-CelebA-mapping.txt", mapping)
    report = ingest(store, settings, folder, identities=3, workers=1)
    assert report.pairs == 2
    names = {frozenset(pair) for pair in drawn(store).values()}
    assert names == {
        frozenset({"CelebA-HQ-img/0.jpg", "CelebA-HQ-img/1.jpg"}),
        frozenset({"CelebA-HQ-img/2.jpg", "CelebA-HQ-img/3.jpg"}),
    }


def test_odd_lines_of_the_list_are_passed_over_and_its_names_cannot_climb(
    store: Store, settings: Settings, put: Put
) -> None:
    folder = celeba(put, people(2))
    listed = folder / "identity_CelebA.txt"
    put("secret.jpg", 1)
    odd = b"\n202599\nx.jpg\na b c\n../../secret.jpg 2000\n\xff\xfe.jpg 2001\na\0.jpg 2001\n"
    listed.write_bytes(odd + listed.read_bytes())
    report = ingest(store, settings, folder, identities=2, workers=1)
    assert report.pairs == 2
    assert all(name.startswith("img_celeba/") for pair in drawn(store).values() for name in pair)


def test_an_identity_that_is_in_another_split_already_takes_no_part(
    store: Store, settings: Settings, put: Put
) -> None:
    with store.writing() as session:
        add_identities(session, ["2000"], 0, "celeba", "none", split=Split.TRAIN)
    report = ingest(store, settings, celeba(put, people(3)), identities=3, workers=1)
    assert set(drawn(store)) == {"2001", "2002"}
    assert report.reasons == {"split_differs": 1}
