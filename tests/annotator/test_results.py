"""What a submitted annotation means, and which annotations mean nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from annotator.brush import encode_mask
from annotator.results import (
    AnnotationError,
    brush_region,
    choice_region,
    parse_annotation,
    proposal_result,
    review_result,
)
from dataset_engine.taxonomy import Conflict

REGION = np.zeros((32, 40), bool)
REGION[4:28, 4:36] = True


def rectangle(top: int, bottom: int, left: int = 0, right: int = 40) -> np.ndarray:
    mask = np.zeros((32, 40), bool)
    mask[top:bottom, left:right] = True
    return mask


def parse(*entries: Any) -> Any:
    return parse_annotation({"id": 1, "result": list(entries)}, REGION)


def test_a_proposal_comes_back_as_the_mask_it_was() -> None:
    mask = rectangle(6, 20, 6, 30)
    result = proposal_result(mask, 0.75)
    assert [entry["score"] for entry in result] == [0.75]
    parsed = parse(*(entry | {"origin": "prediction"} for entry in result))
    assert np.array_equal(parsed.mask, mask)
    assert parsed.verdict is None
    assert parsed.origins == {"prediction"}
    assert not parsed.painted


def test_an_empty_proposal_has_no_region() -> None:
    assert proposal_result(np.zeros((8, 8), bool), 0.1) == []


def test_the_mask_is_consistent_minus_conflict_inside_the_face_region() -> None:
    parsed = parse(
        brush_region(rectangle(0, 20), "consistent"),
        brush_region(rectangle(18, 32), "consistent"),
        brush_region(rectangle(10, 12), "conflict"),
        brush_region(rectangle(11, 15), "conflict"),
    )
    assert np.array_equal(parsed.mask, REGION & ~rectangle(10, 15))


def test_conflict_alone_leaves_nothing_to_transfer() -> None:
    parsed = parse(brush_region(rectangle(10, 12), "conflict"))
    assert parsed.mask is not None
    assert not parsed.mask.any()


def test_without_a_brush_region_there_is_no_mask() -> None:
    parsed = parse(choice_region("verdict", ["reject"]))
    assert parsed.mask is None
    assert parsed.verdict == "reject"
    assert not parsed.painted


def test_choices_of_both_axes_are_read() -> None:
    parsed = parse(
        choice_region("dynamic", ["mouth", "wrinkles"]),
        choice_region("static", ["glasses"]),
        choice_region("verdict", ["accept"]),
    )
    assert parsed.conflicts == {Conflict.MOUTH, Conflict.WRINKLES, Conflict.GLASSES}
    assert parsed.verdict == "accept"


def test_a_whole_review_is_read_back() -> None:
    chosen = frozenset(Conflict)
    parsed = parse(*review_result(REGION, chosen, "accept"))
    assert np.array_equal(parsed.mask, REGION)
    assert parsed.conflicts == chosen
    assert parsed.verdict == "accept"
    assert parsed.painted


def test_axes_without_a_conflict_are_left_unanswered() -> None:
    result = review_result(REGION, frozenset({Conflict.BEARD}), "accept")
    assert [entry["from_name"] for entry in result] == ["mask", "static", "verdict"]


@pytest.mark.parametrize(
    ("origins", "painted"),
    [
        (("prediction",), False),
        (("prediction-changed",), True),
        (("prediction", "manual"), True),
        ((None,), True),
    ],
)
def test_painted_means_any_region_but_the_untouched_proposal(
    origins: tuple[str | None, ...], painted: bool
) -> None:
    entries = [brush_region(REGION, "consistent") | {"origin": origin} for origin in origins]
    assert parse(*entries).painted is painted


def test_clicks_and_relations_are_ignored_even_with_an_rle() -> None:
    click = brush_region(REGION, "conflict") | {"type": "keypointlabels", "from_name": "click"}
    relation = {"type": "relation", "from_id": "a", "to_id": "b", "direction": "right"}
    parsed = parse(click, relation, brush_region(REGION, "consistent"))
    assert np.array_equal(parsed.mask, REGION)


def bad_rle(rle: Any) -> dict[str, Any]:
    entry = brush_region(REGION, "consistent")
    entry["value"]["rle"] = rle
    return entry


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (brush_region(REGION, "hair"), r"labelled \['hair'\]"),
        (brush_region(REGION, "conflict") | {"from_name": "brush"}, "'brush' on 'ref'"),
        (brush_region(REGION, "conflict") | {"to_name": "gt"}, "'mask' on 'gt'"),
        (brush_region(REGION, "conflict") | {"value": {"rle": [1]}}, "no list of brushlabels"),
        (brush_region(REGION, "conflict") | {"value": None}, "no list of brushlabels"),
        (brush_region(REGION, "conflict") | {"image_rotation": 90}, "rotated"),
        (brush_region(REGION.T.copy(), "conflict"), "of a picture of 40 x 32 pixels"),
        (brush_region(REGION, "conflict") | {"original_width": None}, "of 32 x None pixels"),
        (bad_rle(encode_mask(REGION)[:-3]), "consistent region cannot be read: .*cut short"),
        (bad_rle(encode_mask(np.ones((4, 4), bool))), "of 16 pixels"),
        (bad_rle("eJzt"), "must be a list of bytes, not str"),
        (bad_rle(None), "not NoneType"),
        (choice_region("dynamic", ["beard"]), "'beard' is not a choice of 'dynamic'"),
        (choice_region("static", ["eyewear"]), "'eyewear' is not a choice of 'static'"),
        (choice_region("mood", ["mouth"]), "'mouth' is not a choice of 'mood'"),
        (choice_region("static", [["beard"]]), "is not a choice"),  # type: ignore[list-item]
        (choice_region("verdict", ["adjust"]), "not accept or reject"),
        (choice_region("verdict", ["accept", "reject"]), "not accept or reject"),
        (choice_region("verdict", []), "not accept or reject"),
        ({"type": "choices", "from_name": "verdict", "value": {"text": "x"}}, "no list of choices"),
        ({"type": "rectanglelabels"}, "unknown type 'rectanglelabels'"),
        ("text", "is a str"),
    ],
)
def test_what_the_page_cannot_have_sent_is_refused(entry: Any, message: str) -> None:
    with pytest.raises(AnnotationError, match=message):
        parse(entry)


def test_two_verdicts_are_refused() -> None:
    with pytest.raises(AnnotationError, match="two verdicts"):
        parse(choice_region("verdict", ["accept"]), choice_region("verdict", ["reject"]))


@pytest.mark.parametrize("annotation", [{}, {"result": None}, {"result": "[]"}])
def test_an_annotation_without_results_is_refused(annotation: dict[str, Any]) -> None:
    with pytest.raises(AnnotationError, match="no list of results"):
        parse_annotation(annotation, REGION)
