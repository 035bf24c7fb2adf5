"""The demo's page: a contact sheet of held-out pairs, and the figures."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np
from jinja2 import Environment
from numpy.typing import NDArray
from sqlalchemy import select

from dataset_engine.degradation import degrade, detail_kept, preset
from dataset_engine.pictures import over, strip
from dataset_engine.store import Store, read_rgb
from dataset_engine.store.blobs import write_atomically
from dataset_engine.store.queries import reviewed_masks, status_report
from dataset_engine.store.tables import Pair, PairState, Proposal
from dataset_engine.taxonomy import Conflict, Scenario, Split
from models.metrics import Confusion, summarise, summarise_all_ones

ROWS_A_SCENARIO = 3
HEIGHT = 224


@dataclass(frozen=True)
class _Held:
    """A held-out pair with its final mask and its proposal."""

    pair: Pair
    split: str
    mask: str
    proposal: str
    conflicts: frozenset[Conflict]
    confusion: Confusion


@dataclass(frozen=True)
class _Row:
    key: str
    conflicts: str
    split: str
    iou: float
    severe: bool


def write_report(store: Store, out: Path, refsel_run: Path) -> Path:
    """Write ``index.html``, its pictures and ``contact-sheet.jpg``.

    Args:
        store: a store with reviewed pairs that a U-Net had proposed masks for.
        out: folder for the page.
        refsel_run: folder of the RefSel run, with its ``report.json``.

    Returns:
        The page.
    """
    held = _held_out(store)
    confusions = [one.confusion for one in held]
    with store.reading() as session:
        counts = status_report(session)
    rows, strips = [], []
    for one in _choose(held):
        row, picture = _picture(store, one)
        rows.append(row)
        strips.append(picture)
        _write_jpeg(out / "pictures" / f"{row.key}.jpg", picture)
    _write_jpeg(out / "contact-sheet.jpg", np.vstack(strips))
    template = Environment(autoescape=True).from_string(
        files("annotator").joinpath("demo.html").read_text(encoding="utf-8")
    )
    page = out / "index.html"
    html = template.render(
        counts=counts,
        seeds=counts.seeds,
        unet=summarise(confusions),
        ones=summarise_all_ones(confusions),
        refsel=json.loads((refsel_run / "report.json").read_text()),
        rows=rows,
        number=_number,
    )
    write_atomically(page, html.encode())
    return page.absolute()


def _held_out(store: Store) -> list[_Held]:
    held = []
    with store.reading() as session:
        for split in (Split.TEST, Split.VALIDATION):
            for pair, mask in reviewed_masks(session, [split]):
                proposal = session.scalars(
                    select(Proposal)
                    .where(Proposal.pair_id == pair.id, Proposal.round > 0)
                    .order_by(Proposal.id.desc())
                    .limit(1)
                ).first()
                if proposal is None:
                    continue
                region = store.mask(pair.ref.region_sha256)
                held.append(
                    _Held(
                        pair=pair,
                        split=split,
                        mask=mask,
                        proposal=proposal.mask_sha256,
                        conflicts=session.get_one(PairState, pair.id).conflicts,
                        confusion=Confusion.count(
                            store.mask(proposal.mask_sha256), store.mask(mask), region
                        ),
                    )
                )
    return held


def _choose(held: Sequence[_Held]) -> list[_Held]:
    """A few pairs of every scenario, no pair and no reference twice."""
    chosen: list[_Held] = []
    for scenario in Scenario:
        fitting = [one for one in held if one.conflicts & scenario.conflicts]
        # pairs with few other conflicts show theirs best
        fitting.sort(key=lambda one: (len(one.conflicts), one.pair.position))
        count = 0
        for one in fitting:
            if count < ROWS_A_SCENARIO and all(one.pair.ref_id != c.pair.ref_id for c in chosen):
                chosen.append(one)
                count += 1
    return chosen


def _picture(store: Store, one: _Held) -> tuple[_Row, NDArray[np.uint8]]:
    pair = one.pair
    gt = read_rgb(store.images.path(pair.gt.sha256))
    ref = read_rgb(store.images.path(pair.ref.sha256))
    region = store.mask(pair.ref.region_sha256)
    settings = preset("paper")
    degraded = degrade(gt, pair.id, settings).image
    kept = detail_kept(gt, degraded, store.mask(pair.gt.region_sha256))
    images = [
        gt,
        ref,
        over(ref, store.mask(one.proposal), region),
        over(ref, store.mask(one.mask), region),
        degraded,
    ]
    row = _Row(
        key=pair.key,
        conflicts=", ".join(sorted(one.conflicts)) or "no conflict",
        split=one.split,
        iou=one.confusion.iou,
        severe=kept < settings.severe_threshold,
    )
    return row, strip(images, HEIGHT)


def _number(value: float | None) -> str:
    """A score with three decimals, or a dash where it is not defined (NaN, or null in JSON)."""
    return "-" if value is None or math.isnan(value) else f"{value:.3f}"


def _write_jpeg(path: Path, image: NDArray[np.uint8]) -> None:
    ok, data = cv2.imencode(
        ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 90]
    )
    if not ok:
        raise ValueError(f"{path} cannot be written as JPEG")
    write_atomically(path, data.tobytes())
