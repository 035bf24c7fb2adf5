"""Between Label Studio's result lists and masks, conflicts and verdicts: no network, no store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from annotator.brush import BrushError, decode_mask, encode_mask
from dataset_engine.taxonomy import Axis, Conflict

Verdict = Literal["accept", "reject"]

CONSISTENT = "consistent"
CONFLICT = "conflict"
_BRUSH, _IMAGE, _VERDICT = "mask", "ref", "verdict"
_IGNORED_TYPES = ("keypointlabels", "relation")


class AnnotationError(ValueError):
    """An annotation that does not say one clear thing about the pair's reference."""


@dataclass(frozen=True, eq=False)
class ParsedAnnotation:
    """What a person submitted for a pair.

    Attributes:
        mask: bool [H, W] on the reference, inside the face region; None without any brush region.
        conflicts: chosen conflicts of both axes.
        verdict: accept, reject, or None when none was chosen.
        origins: origins of the brush regions: prediction, prediction-changed, manual.
        painted: whether any brush region is not an untouched proposal.
    """

    mask: NDArray[np.bool_] | None
    conflicts: frozenset[Conflict]
    verdict: Verdict | None
    origins: frozenset[str]
    painted: bool


def proposal_result(
    mask: NDArray[np.bool_], score: float, conflicts: frozenset[Conflict] = frozenset()
) -> list[dict[str, Any]]:
    """The regions of a prediction that shows a proposal, editable, over the reference.

    Args:
        mask: bool [H, W] on the reference; an empty one gives no region, since Label Studio
            shows a region without pixels as a broken one.
        score: the proposal's score, 0 to 1.
        conflicts: those that the proposal stands for, to be ticked beforehand. The verdict never is.
    """
    shown = [brush_region(mask, CONSISTENT) | {"score": float(score)}] if mask.any() else []
    return shown + conflict_choices(conflicts)


def conflict_choices(conflicts: frozenset[Conflict]) -> list[dict[str, Any]]:
    """The answered groups of choices; a group without any conflict is left unanswered."""
    found = []
    for axis in Axis:
        chosen = [one.value for one in Conflict if one in conflicts and one.axis is axis]
        if chosen:
            found.append(choice_region(axis.value, chosen))
    return found


def brush_region(mask: NDArray[np.bool_], label: str) -> dict[str, Any]:
    """One brush region on the reference, as Label Studio stores it.

    Args:
        mask: bool [H, W].
        label: CONSISTENT or CONFLICT; it is also the region's id, so that a newer region of the
            same label replaces the older one in the editor.
    """
    height, width = mask.shape
    return brush_tokens(encode_mask(mask), (height, width), label)


def brush_tokens(rle: list[int], shape: tuple[int, int], label: str) -> dict[str, Any]:
    """`brush_region` for a mask that is encoded already; `shape` is its height and width, px."""
    height, width = shape
    return {
        "id": label,
        "from_name": _BRUSH,
        "to_name": _IMAGE,
        "type": "brushlabels",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": {"format": "rle", "rle": rle, "brushlabels": [label]},
    }


def choice_region(name: str, choices: Sequence[str]) -> dict[str, Any]:
    """One answered group of choices: ``dynamic``, ``static`` or ``verdict``."""
    return {
        "id": name,
        "from_name": name,
        "to_name": _IMAGE,
        "type": "choices",
        "value": {"choices": list(choices)},
    }


def review_result(
    mask: NDArray[np.bool_], conflicts: frozenset[Conflict], verdict: Verdict
) -> list[dict[str, Any]]:
    """The whole result of a submitted annotation, as a person's browser would send it.

    Args:
        mask: bool [H, W] on the reference.
        conflicts: the conflicts of the pair; a group without any is left unanswered.
        verdict: accept or reject.
    """
    shown = [brush_region(mask, CONSISTENT), *conflict_choices(conflicts)]
    return [*shown, choice_region(_VERDICT, [verdict])]


def parse_annotation(annotation: Mapping[str, Any], region: NDArray[np.bool_]) -> ParsedAnnotation:
    """Read an annotation as the webhook or the API gives it.

    The mask is union(consistent) minus union(conflict), inside the face region. Clicks (keypoints)
    and relations between regions are ignored: they carry nothing of the mask.

    Args:
        annotation: an object with Label Studio's ``result`` list.
        region: the reference's face region, bool [H, W]; its size is the size required.

    Raises:
        AnnotationError: a label, choice, size or RLE is not one of this labelling page's.
    """
    entries = annotation.get("result")
    if not isinstance(entries, list):
        raise AnnotationError("the annotation has no list of results")
    painted: dict[str, NDArray[np.bool_]] = {}
    origins: set[str] = set()
    conflicts: set[Conflict] = set()
    verdict: Verdict | None = None
    for entry in entries:
        if not isinstance(entry, Mapping):
            raise AnnotationError(f"a result is a {type(entry).__name__} and not an object")
        kind = entry.get("type")
        if kind in _IGNORED_TYPES:
            continue
        if kind == "brushlabels":
            label, mask = _brush(entry, region.shape)
            painted[label] = painted[label] | mask if label in painted else mask
            origins.add(str(entry.get("origin") or "manual"))
        elif kind == "choices" and entry.get("from_name") == _VERDICT:
            verdict = _verdict(entry, verdict)
        elif kind == "choices":
            conflicts |= _conflicts(entry)
        else:
            raise AnnotationError(f"a result is of the unknown type {kind!r}")
    return ParsedAnnotation(
        mask=_combined(painted, region),
        conflicts=frozenset(conflicts),
        verdict=verdict,
        origins=frozenset(origins),
        painted=bool(origins - {"prediction"}),
    )


def _combined(
    painted: Mapping[str, NDArray[np.bool_]], region: NDArray[np.bool_]
) -> NDArray[np.bool_] | None:
    if not painted:
        return None
    nothing = np.zeros_like(region)
    inside: NDArray[np.bool_] = painted.get(CONSISTENT, nothing) & region
    return inside & ~painted.get(CONFLICT, nothing)


def _value(entry: Mapping[str, Any], key: str) -> list[Any]:
    value = entry.get("value")
    found = value.get(key) if isinstance(value, Mapping) else None
    if not isinstance(found, list):
        raise AnnotationError(f"a result of {entry.get('from_name')!r} has no list of {key}")
    return found


def _brush(entry: Mapping[str, Any], shape: tuple[int, ...]) -> tuple[str, NDArray[np.bool_]]:
    names = (entry.get("from_name"), entry.get("to_name"))
    if names != (_BRUSH, _IMAGE):
        raise AnnotationError(f"a brush region is of {names[0]!r} on {names[1]!r}, not mask on ref")
    labels = _value(entry, "brushlabels")
    if len(labels) != 1 or labels[0] not in (CONSISTENT, CONFLICT):
        raise AnnotationError(f"a brush region is labelled {labels}: not consistent or conflict")
    height, width = shape
    size = (entry.get("original_height"), entry.get("original_width"))
    if size != (height, width):
        raise AnnotationError(
            f"a {labels[0]} region is of a picture of {size[0]} x {size[1]} pixels,"
            f" the reference has {height} x {width}"
        )
    if entry.get("image_rotation"):
        raise AnnotationError(f"a {labels[0]} region was painted on a rotated reference")
    value = cast("Mapping[str, Any]", entry["value"])
    try:
        return labels[0], decode_mask(value.get("rle", ()), height, width)
    except BrushError as error:
        raise AnnotationError(f"a {labels[0]} region cannot be read: {error}") from error


def _conflicts(entry: Mapping[str, Any]) -> set[Conflict]:
    name = entry.get("from_name")
    found = set()
    for choice in _value(entry, "choices"):
        if choice not in tuple(Conflict) or Conflict(choice).axis != name:
            raise AnnotationError(f"{choice!r} is not a choice of {name!r}")
        found.add(Conflict(choice))
    return found


def _verdict(entry: Mapping[str, Any], before: Verdict | None) -> Verdict:
    choices = _value(entry, "choices")
    if len(choices) != 1 or choices[0] not in ("accept", "reject"):
        raise AnnotationError(f"the verdict is {choices}: not accept or reject")
    if before is not None and before != choices[0]:
        raise AnnotationError("the annotation has two verdicts")
    return cast("Verdict", choices[0])
