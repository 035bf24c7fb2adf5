"""Whatever an RLE or an annotation holds, it is a mask or one error that says why not.

``REFSTAR_FUZZ_CASES`` sets the number of cases; `make fuzz` sets it to 10,000.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from annotator.brush import BrushError, decode_mask, encode_mask
from annotator.results import AnnotationError, parse_annotation, review_result
from dataset_engine.taxonomy import Conflict

CASES = int(os.environ.get("REFSTAR_FUZZ_CASES", "200"))
FUZZ = settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck))
SIDE = 24
YY, XX = np.mgrid[:SIDE, :SIDE]
FACE = (XX - 12) ** 2 + (YY - 12) ** 2 < 80
STREAM = encode_mask(FACE)
WHOLE = review_result(FACE, frozenset({Conflict.MOUTH, Conflict.BEARD}), "accept")


@st.composite
def streams(draw: st.DrawFn) -> list[Any]:
    """A real stream with bytes changed, cut out or put in."""
    stream: list[Any] = list(STREAM)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, min(len(stream), 8)) | st.integers(0, len(stream)))
        new = draw(st.lists(st.integers(0, 255), max_size=4) | st.just([draw(ODD)]))
        stream[at : at + draw(st.integers(0, 6))] = new
    return stream


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-1, 300),
    st.just(2**80),
    st.floats(),
    st.text(st.characters(), max_size=6),
    st.just("\ud800"),
    st.lists(st.integers(0, 3), max_size=3),
    st.dictionaries(st.text(max_size=3), st.none(), max_size=2),
)


@st.composite
def other_values(draw: st.DrawFn, value: Any) -> Any:
    """The value with something in it that is another one."""
    if isinstance(value, dict) and value and draw(st.integers(0, 5)):
        key = draw(st.sampled_from(sorted(value)))
        if draw(st.integers(0, 3)) == 0:
            return {k: v for k, v in value.items() if k != key}
        return {**value, key: draw(other_values(value[key]))}
    if isinstance(value, list) and value and draw(st.integers(0, 5)):
        at = draw(st.integers(0, len(value) - 1))
        return [*value[:at], draw(other_values(value[at])), *value[at + 1 :]]
    return draw(ODD)


@FUZZ
@given(streams())
def test_a_damaged_stream_is_a_mask_or_a_brush_error(stream: list[Any]) -> None:
    try:
        mask = decode_mask(stream, SIDE, SIDE)
    except BrushError:
        return
    assert mask.shape == (SIDE, SIDE)
    assert mask.dtype == np.bool_


@FUZZ
@given(other_values({"result": WHOLE}))
def test_a_damaged_annotation_is_read_or_an_annotation_error(annotation: Any) -> None:
    if not isinstance(annotation, dict):
        return
    try:
        parsed = parse_annotation(annotation, FACE)
    except AnnotationError:
        return
    assert parsed.mask is None or not (parsed.mask & ~FACE).any()
