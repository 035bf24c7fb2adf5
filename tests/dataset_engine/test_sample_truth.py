from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from dataset_engine.sample import Person, compare, mark_areas, shoot, truth
from dataset_engine.sample.identity import BeardStyle
from dataset_engine.sample.shot import Expression, MakeUp, Mouth, Pose, Shot
from dataset_engine.taxonomy import Conflict, Scenario, scenarios

SEED = 21


@cache
def person(kind: str) -> Person:
    """An identity of the sample that has the habit in question."""
    for index in range(40):
        found = Person(SEED, index)
        habits = found.identity.habits
        if {
            "any": True,
            "beard": habits.beards[0] is not BeardStyle.NONE,
            "glasses": habits.glasses,
            "make-up": habits.make_up,
            "spots": habits.spots == "freckles",
            "paint": habits.paint,
            "tattoo": found.marks.tattoo.any() and not found.identity.long_hair,
        }[kind]:
            return found
    raise AssertionError(kind)


def plain(who: Person) -> Shot:
    """A calm shot that wears nothing, turned a little, lit from the side."""
    calm = Expression(
        mouth=Mouth.CLOSED, gap=0.0, closed_eyes=False, openness=1.0, smile=0.0, brow_lift=0.0,
        frown=0.0, gaze=(0.0, 0.0), wrinkles=(),
    )  # fmt: skip
    return replace(
        who.shot(0),
        pose=Pose(yaw=12, pitch=-4, roll=3),
        expression=calm,
        glasses=False,
        make_up=MakeUp(),
        beard=BeardStyle.NONE,
        spots=False,
        paint=False,
        covered=False,
        loose_hair=False,
    )


def changed(shot: Shot, what: str) -> Shot:
    expression = shot.expression
    return {
        "eyes": lambda: replace(
            shot, expression=replace(expression, closed_eyes=True, openness=0.0)
        ),
        "forehead": lambda: replace(
            shot, expression=replace(expression, wrinkles=(("forehead", 1.0),))
        ),
        "nasolabial": lambda: replace(
            shot, expression=replace(expression, wrinkles=(("nasolabial", 1.0),))
        ),
        "crow's feet": lambda: replace(
            shot, expression=replace(expression, wrinkles=(("crow's feet", 1.0),))
        ),
        "glabella": lambda: replace(
            shot, expression=replace(expression, wrinkles=(("glabella", 1.0),))
        ),
        "teeth": lambda: replace(shot, expression=replace(expression, mouth=Mouth.TEETH, gap=0.3)),
        "open": lambda: replace(shot, expression=replace(expression, mouth=Mouth.OPEN, gap=0.9)),
        "full": lambda: replace(shot, beard=BeardStyle.FULL),
        "stubble": lambda: replace(shot, beard=BeardStyle.STUBBLE),
        "moustache": lambda: replace(shot, beard=BeardStyle.MOUSTACHE),
        "goatee": lambda: replace(shot, beard=BeardStyle.GOATEE),
        "glasses": lambda: replace(shot, glasses=True),
        "lips": lambda: replace(shot, make_up=MakeUp(lips=1.0)),
        "lids": lambda: replace(shot, make_up=MakeUp(lids=1.0)),
        "cheeks": lambda: replace(shot, make_up=MakeUp(cheeks=1.0)),
        "freckles": lambda: replace(shot, spots=True),
        "paint": lambda: replace(shot, paint=True),
        "cover": lambda: replace(shot, covered=True),
    }[what]()


TOGGLES = [
    ("any", "eyes", Conflict.EYES),
    ("any", "forehead", Conflict.WRINKLES),
    ("any", "nasolabial", Conflict.WRINKLES),
    ("any", "crow's feet", Conflict.WRINKLES),
    ("any", "glabella", Conflict.WRINKLES),
    ("beard", "full", Conflict.BEARD),
    ("beard", "stubble", Conflict.BEARD),
    ("beard", "moustache", Conflict.BEARD),
    ("beard", "goatee", Conflict.BEARD),
    ("glasses", "glasses", Conflict.GLASSES),
    ("make-up", "lips", Conflict.COSMETICS),
    ("make-up", "lids", Conflict.COSMETICS),
    ("make-up", "cheeks", Conflict.COSMETICS),
    ("spots", "freckles", Conflict.PIGMENTATION),
    ("paint", "paint", Conflict.PATTERN),
    ("tattoo", "cover", Conflict.PATTERN),
]


@pytest.mark.parametrize(("kind", "what", "conflict"), TOGGLES)
def test_a_changed_attribute_shows_exactly_where_the_truth_says(
    kind: str, what: str, conflict: Conflict
) -> None:
    who = person(kind)
    before, after = plain(who), changed(plain(who), what)
    first, second = shoot(who, before), shoot(who, after)
    both = first.region & second.region
    difference = np.abs(first.image.astype(int) - second.image.astype(int)).max(axis=2)
    there, back = compare(who, before, after), compare(who, after, before)
    assert there.conflicts == back.conflicts == frozenset({conflict})
    area = there.conflict_areas[conflict]
    assert difference[both & ~area].max(initial=0) <= 14
    assert np.mean(difference[both & ~area] > 4) < 2e-3
    assert np.mean(difference[area & both] > 4) > 0.12
    shared = area & both
    assert np.array_equal(shared, back.conflict_areas[conflict] & both)


@pytest.mark.parametrize("what", ["teeth", "open"])
def test_a_mouth_conflict_is_the_lips_and_what_is_between_them(what: str) -> None:
    who = person("any")
    before, after = plain(who), changed(plain(who), what)
    closed, opened = compare(who, after, before), compare(who, before, after)
    assert closed.conflicts == opened.conflicts == frozenset({Conflict.MOUTH})
    small = closed.conflict_areas[Conflict.MOUTH].sum()
    large = opened.conflict_areas[Conflict.MOUTH].sum()
    assert 1500 < small < large < 20_000
    left, right = shoot(who, after).geometry.five_points[3:]
    rows, columns = np.nonzero(opened.conflict_areas[Conflict.MOUTH])
    assert abs(columns.min() - left[0]) < 9
    assert abs(columns.max() - right[0]) < 9
    assert rows.min() < left[1] < rows.max()


def test_light_pose_exposure_background_and_hair_are_no_conflict() -> None:
    who = person("any")
    shot = plain(who)
    light = replace(
        shot.light,
        direction=shot.light.direction * np.array([-1, 1, 1], np.float32),
        colour=np.array([1.1, 1, 0.9], np.float32),
        exposure=1.3,
    )
    other = replace(
        shot, index=3, pose=Pose(yaw=-15, pitch=5, roll=0), light=light, loose_hair=True
    )
    answer = compare(who, other, shot)
    assert answer.conflicts == frozenset()
    assert np.array_equal(answer.mask, answer.region)


def test_a_shot_agrees_with_itself() -> None:
    for identity in range(3):
        answer = truth(SEED, identity, 1, 1)
        assert answer.conflicts == frozenset()
        assert answer.conflict_areas == {}
        assert np.array_equal(answer.mask, answer.region)
        assert 0.2 < answer.region.mean() < 0.5


def pairs(people: int, shots: int) -> list[tuple[Person, int, int]]:
    return [
        (who, gt, ref)
        for who in (Person(SEED, index) for index in range(people))
        for gt in range(shots)
        for ref in range(shots)
        if gt < ref
    ]


def test_masks_lie_in_the_region_and_miss_exactly_the_conflicts() -> None:
    for who, gt, ref in pairs(4, 3):
        answer = compare(who, who.shot(gt), who.shot(ref))
        none = np.zeros((512, 512), bool)
        union = np.logical_or.reduce([none, *answer.conflict_areas.values()])
        assert answer.mask.dtype == answer.region.dtype == bool
        assert not (answer.mask & ~answer.region).any()
        assert not (union & ~answer.region).any()
        assert np.array_equal(answer.mask, answer.region & ~union)
        assert answer.conflicts == set(answer.conflict_areas)


@pytest.mark.slow
def test_every_conflict_occurs_and_scenarios_are_balanced() -> None:
    answers = [compare(who, who.shot(gt), who.shot(ref)) for who, gt, ref in pairs(48, 4)]
    assert set().union(*(answer.conflicts for answer in answers)) == set(Conflict)
    present = [scenarios(answer.conflicts) for answer in answers]
    for scenario in Scenario:
        assert 0.22 < np.mean([scenario in found for found in present]) < 0.5, scenario
    assert 0.04 < np.mean([not found for found in present]) < 0.2
    share = [1 - a.mask.sum() / a.region.sum() for a in answers if a.conflicts]
    assert 0.1 < np.median(share) < 0.3


def test_conflict_areas_are_blobs_and_no_lace() -> None:
    import cv2

    for who, gt, ref in pairs(6, 3):
        answer = compare(who, who.shot(gt), who.shot(ref))
        for conflict, area in answer.conflict_areas.items():
            if conflict is Conflict.PIGMENTATION:
                continue
            count = cv2.connectedComponents(area.astype(np.uint8))[0] - 1
            assert count <= 14, conflict
            opened = cv2.morphologyEx(area.astype(np.uint8), cv2.MORPH_OPEN, np.ones((4, 4)))
            assert opened.sum() > 0.8 * area.sum(), conflict


def correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum()))


def test_the_skin_of_a_person_is_the_same_texture_in_every_light() -> None:
    import cv2

    who, other = person("any"), Person(SEED, 1)
    shot = plain(who)
    light = replace(
        shot.light, exposure=shot.light.exposure * 0.7, ambient=shot.light.ambient * 1.3
    )

    def fine(subject: Person, taken: Shot) -> NDArray[np.float64]:
        grey = shoot(subject, taken).image.astype(np.float64).mean(axis=2)
        return np.asarray(cv2.GaussianBlur(grey, (0, 0), 1) - cv2.GaussianBlur(grey, (0, 0), 6))

    first = fine(who, shot)
    again = fine(who, replace(shot, index=9, light=light))
    stranger = fine(other, replace(shot, identity=1))
    cheek = np.s_[280:330, 165:205]
    assert correlation(first[cheek], again[cheek]) > 0.8
    assert correlation(first[cheek], stranger[cheek]) < 0.3


def test_marks_are_where_the_picture_is_marked() -> None:
    who = person("tattoo")
    index = who.identity.index
    number = next(k for k in range(20) if not who.shot(k).covered and not who.shot(k).paint)
    areas = mark_areas(SEED, index, number)
    assert set(areas) == {"moles", "birthmark", "scars", "tattoo"}
    assert areas["tattoo"].sum() > 100
    shown = shoot(who, who.shot(number)).image.astype(float).mean(axis=2)
    bare = shoot(who, replace(who.shot(number), covered=True)).image.astype(float).mean(axis=2)
    assert (bare - shown)[areas["tattoo"]].mean() > 10
    assert abs((bare - shown)[areas["moles"] & ~areas["tattoo"]]).mean() < 3


def test_marks_that_are_hidden_are_not_reported() -> None:
    for index in range(12):
        who = Person(SEED, index)
        for number in range(6):
            if who.marks.tattoo.any() and who.shot(number).covered:
                assert not mark_areas(SEED, index, number)["tattoo"].any()
                return
    pytest.fail("no covered tattoo among these shots")


def test_seeds_identities_and_shots_all_matter() -> None:
    one = shoot(Person(1, 0), Person(1, 0).shot(0)).image
    assert np.array_equal(one, shoot(Person(1, 0), Person(1, 0).shot(0)).image)
    for seed, index, number in ((2, 0, 0), (1, 1, 0), (1, 0, 1)):
        who = Person(seed, index)
        assert np.abs(one.astype(int) - shoot(who, who.shot(number)).image).mean() > 5
