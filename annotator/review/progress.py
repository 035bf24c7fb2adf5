"""The figures of the progress page, summed in one pass and kept until something changes."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from threading import Lock
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, Header, Response

from annotator.review.access import Access
from annotator.review.overlaps import Masks, Overlaps
from dataset_engine.store import Store
from dataset_engine.store.page_reviews import PAGE
from dataset_engine.store.quality import quality_report
from dataset_engine.store.review_progress import (
    Standing,
    decisions_made,
    latest_change,
    standing_decisions,
    waiting_by_round,
)
from dataset_engine.taxonomy import Conflict, Scenario, Status, scenarios

AT_MOST_EVERY = 2.0
"""Seconds between two summings, however much people decide and however many look."""
BINS = 20
DAYS = 30
DECIDED = (Status.ACCEPTED, Status.ADJUSTED, Status.REJECTED)


def progress_routes(store: Store, access: Access, target: int) -> APIRouter:
    """`GET /progress/numbers`: JSON for the progress page, 304 while nothing changed."""
    router = APIRouter(dependencies=[Depends(access.may_look)])
    figures = Figures(store, target)

    @router.get("/progress/numbers")
    def numbers(if_none_match: Annotated[str, Header()] = "") -> Response:
        """The figures of the progress page; 304 while nothing changed."""
        data = figures.json()
        tag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
        headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
        if tag == if_none_match:
            return Response(status_code=304, headers=headers)
        return Response(data, media_type="application/json", headers=headers)

    return router


@dataclass
class _Sums:
    """What one pass over the standing decisions adds up."""

    statuses: Counter[Status]
    rounds: defaultdict[int | None, Counter[Status]]
    people: defaultdict[str, Counter[Status]]
    days: Counter[str]
    conflict_sets: Counter[frozenset[Conflict]]
    painting: defaultdict[int | None, list[float]]
    looking: list[float]
    seconds: defaultdict[str, list[float]]
    kept: defaultdict[int | None, int]
    changed: list[tuple[int | None, Masks]]


class Figures:
    """The progress page's figures.

    Args:
        store: the store.
        target: reviewed masks that the work aims at.

    Attributes:
        overlaps: measures proposals against final masks in the background.
    """

    def __init__(self, store: Store, target: int) -> None:
        self._store = store
        self._target = target
        self.overlaps = Overlaps(store)
        self._lock = Lock()
        self._version: tuple[int, ...] | None = None
        self._summed_at = 0.0
        self._json = b""

    def json(self) -> bytes:
        """All figures as JSON; those of masks that are not measured yet come later."""
        with self._lock:
            if self._json and time.monotonic() - self._summed_at < AT_MOST_EVERY:
                return self._json
            with self._store.reading() as session:
                version = (*latest_change(session), self.overlaps.measured)
                if version != self._version:
                    sums = _sum(standing_decisions(session))
                    waiting, made = waiting_by_round(session), decisions_made(session)
                    store = self._store
                    quality = quality_report(session, store.least_iou, store.least_kappa)
                    figures = self._figures(sums, waiting, made) | {"quality": asdict(quality)}
                    self._json = json.dumps(figures).encode()
                    self._version = version
            self._summed_at = time.monotonic()
            return self._json

    def _figures(
        self,
        sums: _Sums,
        waiting: dict[int | None, int],
        made: dict[str, tuple[int, datetime]],
    ) -> dict[str, Any]:
        numbers = _in_order({*sums.rounds, *waiting} - ({None} - {*sums.rounds}))
        return {
            "target": self._target,
            "statuses": {status: sums.statuses[status] for status in DECIDED},
            "waiting": sum(count for number, count in waiting.items() if number is not None),
            "without_proposal": waiting.get(None, 0),
            "days": sorted(sums.days.items())[-DAYS:],
            "rounds": [
                {"round": number, "waiting": 0 if number is None else waiting.get(number, 0)}
                | {status: sums.rounds[number][status] for status in DECIDED}
                for number in numbers
            ],
            "overlap": self._overlap(sums),
            "painting": [
                {"round": number} | _quartiles(sums.painting[number])
                for number in sorted(
                    sums.painting, key=lambda number: -1 if number is None else number
                )
            ],
            "painting_all": _quartiles([s for some in sums.painting.values() for s in some]),
            "looking": _quartiles(sums.looking),
            "scenarios": {
                scenario: sum(
                    count
                    for conflicts, count in sums.conflict_sets.items()
                    if scenario in scenarios(conflicts)
                )
                for scenario in Scenario
            },
            "conflicts": {
                conflict: sum(
                    count
                    for conflicts, count in sums.conflict_sets.items()
                    if conflict in conflicts
                )
                for conflict in Conflict
            },
            "without_conflict": sums.conflict_sets[frozenset()],
            "people": [
                {"name": name, "made": count, "last": last.isoformat()}
                | {status: sums.people[name][status] for status in DECIDED}
                | {"seconds": _quartiles(sums.seconds[name])}
                for name, (count, last) in sorted(made.items(), key=lambda one: -one[1][0])
            ],
        }

    def _overlap(self, sums: _Sums) -> dict[str, Any]:
        """IoU between proposal and final mask: exactly 1 where a person kept it, measured elsewhere."""
        known = self.overlaps.known([masks for _, masks in sums.changed])
        by_round: defaultdict[int | None, list[float]] = defaultdict(list)
        for number, count in sums.kept.items():
            by_round[number] += [1.0] * count
        for number, masks in sums.changed:
            if masks in known:
                by_round[number].append(known[masks])
        everything = [iou for some in by_round.values() for iou in some]
        counts, _ = np.histogram([iou for iou in everything if iou < 1], BINS, (0.0, 1.0))
        return {
            "kept": sum(sums.kept.values()),
            "changed": len(sums.changed),
            "measured": sum(masks in known for _, masks in sums.changed),
            "bins": counts.tolist(),
            "all": _quartiles(everything),
            "rounds": [
                {"round": number} | _quartiles(by_round[number]) for number in _in_order(by_round)
            ],
        }


def _sum(decisions: Iterable[Standing]) -> _Sums:
    sums = _Sums(
        statuses=Counter(),
        rounds=defaultdict(Counter),
        people=defaultdict(Counter),
        days=Counter(),
        conflict_sets=Counter(),
        painting=defaultdict(list),
        looking=[],
        seconds=defaultdict(list),
        kept=defaultdict(int),
        changed=[],
    )
    for one in decisions:
        sums.statuses[one.status] += 1
        sums.rounds[one.round][one.status] += 1
        sums.people[one.actor][one.status] += 1
        if one.seconds is not None:
            sums.seconds[one.actor].append(one.seconds)
            (sums.looking if one.source == PAGE else sums.painting[one.round]).append(one.seconds)
        if not one.status.reviewed:
            continue
        sums.days[one.at.date().isoformat()] += 1
        sums.conflict_sets[one.conflicts] += 1
        if one.proposed is not None and one.final is not None:
            if one.final == one.proposed:
                sums.kept[one.round] += 1
            else:
                sums.changed.append((one.round, (one.proposed, one.final)))
    return sums


def _in_order(rounds: Iterable[int | None]) -> list[int | None]:
    """Rounds by number; None, for what nothing was proposed for, comes first."""
    return sorted(rounds, key=lambda number: -1 if number is None else number)


def _quartiles(values: Sequence[float]) -> dict[str, float | int | None]:
    if not values:
        return {"count": 0, "low": None, "median": None, "high": None}
    low, median, high = (float(q) for q in np.quantile(np.asarray(values), (0.25, 0.5, 0.75)))
    return {"count": len(values), "low": low, "median": median, "high": high}
