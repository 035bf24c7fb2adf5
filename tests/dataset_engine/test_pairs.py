"""Identities keep their split, pairs are made once, seeds are spread over people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from sqlalchemy import delete, event, func, select

from dataset_engine.store import Store
from dataset_engine.store.pairs import (
    LAST,
    add_identities,
    add_pair,
    add_pairs,
    choose_seeds,
    in_split_order,
    relicense,
    seeded_fraction,
)
from dataset_engine.store.queries import count_undecided, pair_by_key, undecided
from dataset_engine.store.tables import Identity, Image, Pair, PairState
from dataset_engine.taxonomy import Split, Status


def test_splits_hold_their_shares_and_never_change(store: Store) -> None:
    with store.writing() as session:
        add_identities(session, [f"p{n}" for n in range(50)], 3, "s", "l")
        before = dict(session.execute(select(Identity.name, Identity.split)).all())
    assert Counter(before.values()) == {Split.TRAIN: 40, Split.VALIDATION: 5, Split.TEST: 5}
    with store.writing() as session:
        add_identities(session, [f"p{n}" for n in range(100)], 4, "s", "l")
        after = dict(session.execute(select(Identity.name, Identity.split)).all())
    assert Counter(after.values()) == {Split.TRAIN: 80, Split.VALIDATION: 10, Split.TEST: 10}
    assert {name: after[name] for name in before} == before


def test_the_same_name_in_another_source_is_another_person(store: Store) -> None:
    with store.writing() as session:
        first = add_identities(session, ["0001"], 0, "celebs", "a")["0001"].id
        other = add_identities(session, ["0001"], 0, "others", "b")["0001"].id
        again = add_identities(session, ["0001"], 0, "celebs", "c")["0001"]
        assert first == again.id != other
        assert again.licence == "a"


def test_a_source_gets_another_licence_and_others_keep_theirs(store: Store) -> None:
    with store.writing() as session:
        for source in ("celebs", "others"):
            add_identities(session, ["0001", "0002"], 0, source, "a")
        assert relicense(session, "celebs", licence="c") == 2
        assert relicense(session, "celebs", licence="c") == 0
        assert relicense(session, "celebs", licence="c", consent="written") == 2
    with store.reading() as session:
        licences = session.execute(select(Identity.source, Identity.licence).distinct()).all()
    assert set(map(tuple, licences)) == {("celebs", "c"), ("others", "a")}


def test_given_splits_leave_the_shares_of_the_others_alone(store: Store) -> None:
    with store.writing() as session:
        add_identities(session, [f"t{n}" for n in range(40)], 0, "tests", "l", split=Split.TEST)
        add_identities(session, [f"p{n}" for n in range(50)], 0, "s", "l")
        rows = session.execute(select(Identity.source, Identity.split)).all()
    assert Counter(split for source, split in rows if source == "s") == {
        Split.TRAIN: 40,
        Split.VALIDATION: 5,
        Split.TEST: 5,
    }
    assert {split for source, split in rows if source == "tests"} == {Split.TEST}


def test_identities_added_a_few_at_a_time_get_the_splits_of_all_at_once(store: Store) -> None:
    names = [f"p{n}" for n in range(30)]
    with store.writing() as session:
        at_once = add_identities(session, names, 5, "a", "l")
        whole = {name: one.split for name, one in at_once.items()}
        session.execute(delete(Identity))
        ordered = in_split_order(names, 5)
        for start in range(0, 30, 7):
            add_identities(session, ordered[start : start + 7], 5, "b", "l")
        parts = dict(session.execute(select(Identity.name, Identity.split)).all())
    assert parts == whole


def test_one_pair_is_made_where_it_was_asked_for_and_only_once(
    store: Store, fill: Callable[..., None]
) -> None:
    fill(identities=1, images=3, limit=1)
    with store.writing() as session:
        taken = session.scalars(select(Pair)).one()
        images = {image.id: image for image in session.scalars(select(Image))}
        gt, ref = images[taken.ref_id], images[taken.gt_id]
        made = add_pair(session, gt, ref, seed=0)
        assert made is not None
        assert 1 <= made.position < 2
        assert session.get_one(PairState, made.id).status == Status.UNLABELLED
        assert add_pair(session, gt, ref, seed=0) is None
        third = next(image for image in images.values() if image.id not in (gt.id, ref.id))
        last = add_pair(session, gt, third, seed=0, rank=LAST, key="a-name-of-its-own")
        assert last is not None
        assert (last.key, int(last.position)) == ("a-name-of-its-own", LAST)


def test_many_pairs_are_no_more_flushes_than_few(store: Store, fill: Callable[..., None]) -> None:
    fill(identities=1, images=6, limit=1)
    flushes: list[object] = []
    with store.writing() as session:
        event.listen(session, "after_flush", lambda *given: flushes.append(given))
        assert add_pairs(session, 1, seed=0, limit=30) == 29
    assert len(flushes) == 2
    with store.reading() as session:
        assert session.scalar(select(func.count(PairState.pair_id))) == 30


def test_all_ordered_pairs_are_made_once_up_to_the_limit(
    store: Store, fill: Callable[..., None]
) -> None:
    fill(identities=2, images=4, limit=5)
    with store.writing() as session:
        keys = set(session.scalars(select(Pair.key)))
        assert len(keys) == 10
        assert add_pairs(session, 1, seed=0, limit=5) == 0
        assert add_pairs(session, 1, seed=0, limit=100) == 12 - 5
        assert keys < set(session.scalars(select(Pair.key)))
        for pair in session.scalars(select(Pair)):
            assert pair.gt_id != pair.ref_id
            assert pair.gt.identity_id == pair.ref.identity_id == pair.identity_id


def test_adding_an_image_only_adds_pairs(store: Store, fill: Callable[..., None]) -> None:
    fill(identities=1, images=2)
    with store.writing() as session:
        image = session.scalars(select(Image)).first()
        assert image is not None
        session.add(
            Image(
                identity_id=1,
                name="new",
                source_sha256="0" * 64,
                sha256="f" * 64,
                region_sha256=image.region_sha256,
                phash="0" * 16,
                sharpness=1.0,
                five_points=image.five_points,
            )
        )
        session.flush()
        before = set(session.scalars(select(Pair.key)))
        assert add_pairs(session, 1, seed=0, limit=12) == 4
        assert before < set(session.scalars(select(Pair.key)))


def test_seeds_are_spread_over_identities_and_stay(store: Store, fill: Callable[..., None]) -> None:
    fill(identities=6, images=3)
    with store.writing() as session:
        first = [pair.id for pair in choose_seeds(session, 6)]
        assert len({session.get_one(Pair, pair).identity_id for pair in first}) == 6
        more = [pair.id for pair in choose_seeds(session, 9)]
    assert more[:6] == first
    assert len(more) == 9


def test_a_rejected_seed_is_replaced(store: Store, fill: Callable[..., None]) -> None:
    fill(identities=4, images=2)
    with store.writing() as session:
        seeds = choose_seeds(session, 3)
        session.get_one(PairState, seeds[0].id).status = Status.REJECTED
        session.flush()
        assert len(choose_seeds(session, 3)) == 4
        assert len(choose_seeds(session, 3)) == 4


def test_undecided_pairs_come_in_order_and_each_identity_first(
    store: Store, fill: Callable[..., None]
) -> None:
    fill(identities=5, images=3)
    pairs = list(undecided(store))
    assert len(pairs) == 30
    assert len({pair.identity_id for pair in pairs[:5]}) == 5
    assert [pair.position for pair in pairs] == sorted(pair.position for pair in pairs)
    assert pairs[0].gt.sha256[:16] == pairs[0].key[:16]
    with store.reading() as session:
        assert count_undecided(session, "unet-r1") == 30
        assert pair_by_key(session, pairs[3].key) is not None
        assert pair_by_key(session, "nobody") is None


def test_seeded_fractions_depend_on_seed_and_parts_alone() -> None:
    assert seeded_fraction(1, "a", "b") == seeded_fraction(1, "a", "b")
    assert seeded_fraction(1, "a", "b") != seeded_fraction(2, "a", "b")
    fractions = [seeded_fraction(0, str(number)) for number in range(1000)]
    assert 0 <= min(fractions) < 0.01
    assert 0.99 < max(fractions) < 1
