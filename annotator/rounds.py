"""`engine bootstrap`: one turn of the loop between annotators and the U-Net.

The first turn sends seed pairs and waits for people; every further one trains the U-Net on all
reviewed masks, proposes masks for all other pairs and sends them (paper, "Data Engine"). Each step
leaves its result in the store, so a turn that was broken off goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from annotator.guard import put_back
from annotator.locks import held
from annotator.sending import send_proposals
from annotator.sync import SyncReport, sync, sync_lock
from annotator.workplace import Workplace
from dataset_engine.bootstrap_training import BootstrapSettings, train_bootstrap
from dataset_engine.cold_start.comparing import rule_scores, unet_measures_better
from dataset_engine.cold_start.landmarks import Landmarks, NoAnalyser
from dataset_engine.cold_start.proposing import propose_first, propose_undecided_by_rule
from dataset_engine.cold_start.rule import RULE_VERSION
from dataset_engine.given_model import is_taken, take_model
from dataset_engine.progress import Advance
from dataset_engine.proposal_run import propose_undecided
from dataset_engine.settings import Settings
from dataset_engine.store import Store
from dataset_engine.store.pairs import choose_seeds
from dataset_engine.store.proposals import bring_forward
from dataset_engine.store.queries import (
    latest_decision_id,
    latest_round,
    seeds_annotated,
    seeds_open,
)
from dataset_engine.store.tables import Round
from dataset_engine.stored_pairs import model_folder, run_folder
from dataset_engine.training_set import (
    ReviewedMask,
    ReviewedPairs,
    current_training_set,
    fixed_training_set,
)
from models.metrics import Scores
from models.refsel import RefSel

Bar = Callable[[str], AbstractContextManager[Advance]]
"""Opens a progress bar with a description."""


class SeedsMissingError(RuntimeError):
    """People have not annotated enough seed pairs yet; it is their turn."""

    def __init__(self, annotated: int, wanted: int, url: str, note: str = "") -> None:
        self.missing = wanted - annotated
        super().__init__(
            f"{annotated} of {wanted} seed pairs are annotated, {self.missing} are missing: "
            f"annotate them at {url}, then run the same command again"
            + (f" ({note})" if note else "")
        )


class NothingNewError(RuntimeError):
    """Nobody has reviewed anything since the last round, so a new one would learn nothing."""


@dataclass
class RoundReport:
    """What a turn did.

    Attributes:
        number: number of the round.
        model_version: version of the U-Net.
        trained_on: reviewed pairs that it learnt from.
        metrics: scores on held-out identities, ``unet`` beside ``all_ones``; see
            `models.metrics.Scores`.
        proposed: pairs that got a proposal in this turn.
        sent: proposals sent to the annotators in this turn.
        set_aside: pairs that could not be read, by key, with the reason.
        notes: what the person should know.
    """

    number: int
    model_version: str
    trained_on: int = 0
    metrics: dict[str, Any] = field(default_factory=dict)
    proposed: int = 0
    sent: int = 0
    set_aside: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def sync_workplace(
    store: Store, workplace: Workplace, bar: Bar, *, accept_deletions: bool = False
) -> SyncReport:
    """Bring the store to the state of the annotation project; see `annotator.sync.sync`."""
    with sync_lock(store.home):
        restored = put_back(store, workplace)
        with bar("reading annotations") as advance:
            annotations = workplace.studio.annotations(workplace.project)
            report = sync(
                store,
                workplace.project_id,
                annotations,
                advance,
                accept_deletions=accept_deletions,
            )
    report.restored = restored
    return report


def run_round(
    store: Store,
    workplace: Workplace,
    settings: Settings,
    *,
    seed_count: int,
    training: BootstrapSettings,
    bar: Bar,
    model: Path | None = None,
) -> RoundReport:
    """Take one turn.

    Args:
        store: the store.
        workplace: where the annotators are.
        settings: its seed decides the choice of seed pairs.
        seed_count: masks that people make before the first U-Net, corrected from what the rule proposes.
        training: how the U-Net is trained.
        bar: opens progress bars.
        model: a trained RefSel that is the round's model, so that no U-Net is trained.

    Raises:
        SeedsMissingError: the seed pairs are sent, and people have not done enough of them.
        NothingNewError: there is nothing to learn from since the last round, and nothing to propose.
        ValueError: the store has fewer pairs than seeds are asked for, or none of the annotated ones
            is of a train identity.
        CheckpointError: `model` cannot be loaded.
        LockHeldError: another round of this home is running.
    """
    busy = "another `engine bootstrap` of this home is running: wait for it, or stop it"
    with held(store.home / "bootstrap.lock", busy):
        return _run_round(
            store,
            workplace,
            bar,
            seed_count=seed_count,
            training=replace(training, seed=settings.seed),
            model=model,
        )


def _run_round(
    store: Store,
    workplace: Workplace,
    bar: Bar,
    *,
    seed_count: int,
    training: BootstrapSettings,
    model: Path | None,
) -> RoundReport:
    if model is not None:
        RefSel.from_pretrained(model)  # what is wrong with it is said before anything is sent
    sync_workplace(store, workplace, bar)
    with store.reading() as session:
        round_ = latest_round(session)
    if round_ is None:
        _send_seeds(store, workplace, seed_count, bar)
    was_done = round_ is not None and round_.stage == "done"
    if round_ is None or (was_done and _has_news(store, round_, model)):
        round_, was_done = _begin(store, round_), False
    report = RoundReport(round_.number, round_.model_version, metrics=round_.metrics)
    if round_.stage == "training":
        _train(store, round_, report, bar, training=training, given=model)
    _propose(store, round_, report, bar)
    shown = _take_over(store, round_, report, bar)
    with bar("sending proposals") as advance:
        report.sent = send_proposals(store, workplace, shown, advance)
    if was_done and not report.proposed and not report.sent:
        raise NothingNewError(
            f"nothing was reviewed since round {round_.number}, and every pair has a proposal: "
            f"review some at {workplace.url}, then run the same command again"
        )
    _set_stage(store, round_.number, "done", report.metrics)
    return report


def _send_seeds(store: Store, workplace: Workplace, count: int, bar: Bar) -> None:
    with store.writing() as session:
        seeds = choose_seeds(session, count)
    if len(seeds) < count:
        raise ValueError(
            f"the store has only {len(seeds)} pairs, but {count} seeds are asked for: ingest more "
            "identities, or give a smaller --seed"
        )
    with bar("deriving first proposals") as advance:
        first = propose_first(store, seeds, Landmarks(store), advance)
    with bar("sending seed pairs") as advance:
        send_proposals(store, workplace, first.model_version, advance)
    with store.reading() as session:
        annotated, open_seeds = seeds_annotated(session), seeds_open(session)
    # rejected seeds may have used up all pairs: then it goes on with what there is
    if annotated < count and open_seeds:
        raise SeedsMissingError(annotated, count, workplace.url, first.note)
    if not current_training_set(store).train:
        raise ValueError(
            f"none of the {annotated} annotated seed pairs is of a train identity: "
            "give a larger --seed"
        )


def _has_news(store: Store, round_: Round, model: Path | None) -> bool:
    if model is not None and not is_taken(model, run_folder(store, round_.model_version)):
        return True
    with store.reading() as session:
        return latest_decision_id(session) > round_.last_event_id


def _begin(store: Store, last: Round | None) -> Round:
    number = last.number + 1 if last else 1
    with store.writing() as session:
        round_ = Round(
            number=number,
            model_version=f"unet-r{number}",
            last_event_id=latest_decision_id(session),
            stage="training",
        )
        session.add(round_)
    return round_


def _train(
    store: Store,
    round_: Round,
    report: RoundReport,
    bar: Bar,
    *,
    training: BootstrapSettings,
    given: Path | None,
) -> None:
    folder = run_folder(store, round_.model_version)
    fixed = fixed_training_set(store, folder)
    train, held_out = (ReviewedPairs(store, masks) for masks in (fixed.train, fixed.held_out))
    if not held_out:
        report.notes.append("no held-out identity has a reviewed pair yet: there are no scores")
    if given is not None:
        result = take_model(given, held_out, folder)
        report.notes.append(f"{round_.model_version} is the RefSel of {given}")
    else:
        earlier = model_folder(store, f"unet-r{round_.number - 1}")
        with bar(f"training {round_.model_version} on {len(train)} pairs") as advance:
            result = train_bootstrap(
                train,
                held_out,
                folder,
                replace(
                    training, model=replace(training.model, data_version=f"round-{round_.number}")
                ),
                start_from=earlier if earlier.exists() else None,
                progress=lambda done: advance(done, training.steps),
            )
        report.trained_on = len(train)
    if result.encoder_weights_note:
        report.notes.append(result.encoder_weights_note)
    if held_out:
        report.metrics = {"unet": _row(result.scores), "all_ones": _row(result.all_ones)}
        _measure_rule(store, fixed.held_out, report, bar)
    _set_stage(store, round_.number, "proposing", report.metrics)


def _propose(store: Store, round_: Round, report: RoundReport, bar: Bar) -> None:
    with bar("proposing masks") as advance:
        run = propose_undecided(
            store,
            model_folder(store, round_.model_version),
            round_.model_version,
            round_.number,
            flips=True,
            progress=advance,
        )
    report.proposed, report.set_aside = run.proposed, run.set_aside.reasons
    if run.set_aside.count > len(report.set_aside):
        report.notes.append(
            f"{run.set_aside.count} pairs could not be read; the first {len(report.set_aside)} of "
            "them are named here: mend them and run the same command again for the others"
        )


def _measure_rule(
    store: Store, held_out: Sequence[ReviewedMask], report: RoundReport, bar: Bar
) -> None:
    masks = [(one.gt, one.reference, one.mask) for one in held_out]
    try:
        with bar("measuring the rule beside it") as advance:
            scores = rule_scores(store, Landmarks(store), masks, advance)
    except NoAnalyser as error:
        report.notes.append(f"the rule was not measured: {error}")
        return
    if scores is not None:
        report.metrics["rule"] = _row(scores)


def _take_over(store: Store, round_: Round, report: RoundReport, bar: Bar) -> str:
    """The version whose proposals people see: the rule's until a U-Net measures better."""
    if unet_measures_better(report.metrics):
        return round_.model_version
    try:
        with bar("deriving proposals by rule") as advance:
            run = propose_undecided_by_rule(store, Landmarks(store), round_.number, advance)
    except NoAnalyser as error:
        report.notes.append(f"the rule measures better, but cannot be used: {error}")
        return round_.model_version
    report.proposed += run.proposed
    bring_forward(store, RULE_VERSION)
    report.notes.append(
        f"{round_.model_version} does not measure better than the rule on held-out identities: "
        f"{RULE_VERSION} proposes until one does"
    )
    return RULE_VERSION


def _row(scores: Scores) -> dict[str, float | None]:
    # NaN, a score that is not defined, has no place in JSON
    return {name: None if value != value else value for name, value in asdict(scores).items()}  # noqa: PLR0124


def _set_stage(store: Store, number: int, stage: str, metrics: dict[str, Any]) -> None:
    with store.writing() as session:
        round_ = session.get_one(Round, number)
        round_.stage, round_.metrics = stage, metrics
