"""Proposals for Label Studio's `/predict`: the stored ones, and the few that are missing.

Nothing trains here. A pair that came in after the last round gets its proposal from that round's
model, which is loaded once, or by rule while no U-Net measures better.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, urlsplit

from annotator.clicks import Clicks
from annotator.patches import Patches
from annotator.results import proposal_result
from dataset_engine.cold_start.comparing import proposing_version
from dataset_engine.cold_start.landmarks import Landmarks
from dataset_engine.cold_start.proposing import conflicts_of, propose_first
from dataset_engine.cold_start.rule import RULE_VERSION
from dataset_engine.proposing import propose
from dataset_engine.store import Store
from dataset_engine.store.proposals import NewProposal, add_proposals
from dataset_engine.store.queries import latest_proposal, pair_by_key, usable_round
from dataset_engine.store.tables import Pair, Proposal, Round
from dataset_engine.stored_pairs import model_folder, pair_files
from models.refsel import RefSel

CLICK_VERSION = "click"
"""Model version of what is answered to a click; such an answer is never stored."""


class TaskError(ValueError):
    """A task that does not show one of the engine's pairs."""


class Predictor:
    """Answers `/predict` from the store, and computes what is missing with the newest model."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._loaded: tuple[str, RefSel] | None = None
        self._landmarks = Landmarks(store)
        self._clicks = Clicks(
            store, self._landmarks, Patches(store, self._landmarks, self._newest_model)
        )

    def model_version(self) -> str:
        """The version that proposals have now."""
        with self._store.reading() as session:
            round_ = usable_round(session)
        return proposing_version(round_) if round_ else RULE_VERSION

    def warm_up(self) -> None:
        """Load the newest model, so that no annotator waits for it."""
        with self._store.reading() as session:
            round_ = usable_round(session)
        if round_ is not None:
            self._model(round_)
        self._landmarks.warm_up()

    def predict(
        self, tasks: Sequence[Mapping[str, Any]], params: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """One prediction a task, in order, in Label Studio's form; or what a click toggles.

        Args:
            tasks: as Label Studio sends them.
            params: the request's ``params``: with a ``context`` it is a click on the one task.

        Raises:
            TaskError: a task shows no pair of this engine, or other images than the pair's.
        """
        pairs = [self._pair(task) for task in tasks]
        context = (params or {}).get("context")
        if isinstance(context, Mapping) and len(pairs) == 1:
            return [
                {
                    "model_version": CLICK_VERSION,
                    "score": 0.0,
                    "result": self._clicks.answer(pairs[0], tasks[0], context),
                }
            ]
        return [self._prediction(pair) for pair in pairs]

    def _pair(self, task: Mapping[str, Any]) -> Pair:
        data = task.get("data")
        key = data.get("pair") if isinstance(data, Mapping) else None
        if not isinstance(data, Mapping) or not isinstance(key, str):
            raise TaskError(f"task {task.get('id')!r} names no pair in its data")
        with self._store.reading() as session:
            pair = pair_by_key(session, key)
        if pair is None:
            raise TaskError(
                f"task {task.get('id')!r} names pair {key!r}, which is not in the store"
            )
        for name, image in (("gt", pair.gt), ("ref", pair.ref)):
            shown = local_file(str(data.get(name, "")), self._store.served)
            if shown != self._store.images.path(image.sha256):
                raise TaskError(f"task {task.get('id')!r} does not show the {name} of pair {key!r}")
        return pair

    def _prediction(self, pair: Pair) -> dict[str, Any]:
        with self._store.reading() as session:
            proposal = latest_proposal(session, pair.id)
        proposal = proposal or self._compute(pair)
        return {
            "model_version": proposal.model_version,
            "score": proposal.score,
            "result": proposal_result(
                self._store.mask(proposal.mask_sha256),
                proposal.score,
                conflicts_of(self._store, self._landmarks, pair, proposal.model_version),
            ),
        }

    def _compute(self, pair: Pair) -> Proposal:
        store = self._store
        with store.reading() as session:
            round_ = usable_round(session)
        if round_ is None or proposing_version(round_) == RULE_VERSION:
            propose_first(store, [pair], self._landmarks)
        else:
            made = [
                NewProposal(pair.id, proposal.mask, proposal.score)
                for proposal in propose(
                    self._model(round_), [pair_files(store, pair)], batch_size=1
                )
            ]
            add_proposals(store, round_.model_version, round_.number, made)
        with store.reading() as session:
            proposal = latest_proposal(session, pair.id)
        if proposal is None:
            raise TaskError(f"pair {pair.key!r} could not be read, so it has no proposal")
        return proposal

    def _newest_model(self) -> tuple[str, RefSel] | None:
        with self._store.reading() as session:
            round_ = usable_round(session)
        return None if round_ is None else (round_.model_version, self._model(round_))

    def _model(self, round_: Round) -> RefSel:
        with self._lock:
            if self._loaded is None or self._loaded[0] != round_.model_version:
                model = RefSel.from_pretrained(model_folder(self._store, round_.model_version))
                self._loaded = (round_.model_version, model)
            return self._loaded[1]


def local_file(url: str, served: Path) -> Path:
    """The file that a task's URL names, below the folder that Label Studio serves from.

    Raises:
        TaskError: the URL is of another form, or climbs out of the folder.
    """
    parts = urlsplit(url)
    named = parse_qs(parts.query).get("d", [])
    if parts.path != "/data/local-files/" or len(named) != 1:
        raise TaskError(f"{url!r} is not a local file of Label Studio")
    relative = PurePosixPath(named[0])
    if relative.is_absolute() or ".." in relative.parts:
        raise TaskError(f"{url!r} leaves the images folder")
    return served / relative
