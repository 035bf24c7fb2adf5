"""`engine ingest`: photographs in; aligned images, face regions and pairs out.

Nothing in a source is changed. A file that cannot be used is set aside with its reason and never
stops the run; a second run adds only what is new.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from dataset_engine.faces.prepare import PrepareSettings
from dataset_engine.ingest_report import IngestReport, SetAsideList
from dataset_engine.progress import Advance, silent
from dataset_engine.settings import Settings
from dataset_engine.sources.celeba import CelebRefTest
from dataset_engine.sources.detection import detect
from dataset_engine.sources.form import Form
from dataset_engine.sources.identity_folders import IdentityFolders
from dataset_engine.sources.pair_list import PairList
from dataset_engine.sources.restoration_inputs import RestorationInputs
from dataset_engine.sources.source_ingest import Given
from dataset_engine.store import Store
from dataset_engine.store.pairs import relicense
from dataset_engine.store.removals import let_back


def ingest(
    store: Store,
    settings: Settings,
    source: Path,
    *,
    form: Form | None = None,
    pairs_per_identity: int = 12,
    identities: int = 1000,
    prepare: PrepareSettings | None = None,
    workers: int | None = None,
    again: Collection[str] = (),
    progress: Advance = silent,
) -> IngestReport:
    """Take a source into the store.

    An identity is a name within a source, and a source is called as the ingested folder or file is:
    the same name in another source is another person.

    Args:
        store: the store.
        settings: seed, licence, consent and parser weights are read from it. A licence or consent
            that was given, not left at its default, also becomes that of what earlier runs took from
            the source.
        source: a folder, or a CSV file of pairs; see `Form`.
        form: the source's form; told by what lies in it otherwise.
        pairs_per_identity: at most this many ordered pairs are made of one identity's images, in
            identity folders.
        identities: how many identities Celeb-Ref-Test is to have, a pair of each.
        prepare: limits on images; the defaults suit photographs of a few hundred pixels and more.
        workers: processes that align and analyse; as many as there are cores otherwise.
        again: people of this source who were removed (`engine forget`) and may come in again; all
            others that were removed are set aside.
        progress: called with the number of steps done and of all steps; a step is a file, or the
            pairs of an identity.

    Raises:
        NotADirectoryError: the source is not there, or holds nothing of its form.
        NobodyForgottenError: somebody who is to come in again was never removed.
        PairTableError: a CSV file lacks a column, or has an unknown one.
    """
    form = form or detect(source)
    if form is Form.PAIRS and not source.is_file():
        raise NotADirectoryError(f"{source} is no file: give a CSV file of pairs")
    if form is not Form.PAIRS and not source.is_dir():
        raise NotADirectoryError(f"{source} is not a folder: give one of the form {form}")
    place = source.resolve()
    prepare = prepare or PrepareSettings(parser_weights=settings.parser_weights)
    report = IngestReport()
    name = place.stem if form is Form.PAIRS else place.name or "root"
    stated = settings.model_dump(include=settings.model_fields_set & {"licence", "consent"})
    if stated or again:
        with store.writing() as session:
            let_back(session, name, again)
            report.relicensed = relicense(session, name, **stated) if stated else 0
    scope = f"{place}:" if form is Form.PAIRS else f"{place}".rstrip("/") + "/"
    left = SetAsideList(store, report, scope)
    given = Given(store, settings, place, report, left)
    if form is Form.IDENTITIES:
        IdentityFolders(given).take(pairs_per_identity, prepare, workers, progress)
    elif form is Form.CELEBA:
        CelebRefTest(given).take(identities, prepare, workers, progress)
    elif form is Form.PAIRS:
        PairList(given).take(prepare, workers, progress)
    else:
        RestorationInputs(given).take(prepare, workers, progress)
    left.close()
    return report
