"""`engine import-shards`: a published set comes back into a store, to be reviewed and exported further.

Each triplet becomes its identity, two images with their face regions, a pair, and one event that says
what the set says: who decided what, with which mask. Files are kept byte for byte, so that an export of
an imported set holds the same samples. Importing again adds nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from dataset_engine.faces.quality import sharpness
from dataset_engine.progress import Advance, silent
from dataset_engine.settings import Settings
from dataset_engine.shards.images import decode_mask, decode_rgb
from dataset_engine.shards.importing import Published, read_published
from dataset_engine.shards.index import Index
from dataset_engine.shards.plan import SetAside
from dataset_engine.shards.triplet import NOT_STATED, Point, Triplet, canonical, describe
from dataset_engine.sources.source_ingest import forgotten_detail
from dataset_engine.store import Store
from dataset_engine.store.pairs import add_identities, add_pair
from dataset_engine.store.removals import forgotten, let_back
from dataset_engine.store.reviews import EventKind, derive
from dataset_engine.store.tables import Event, Identity, Image, Pair, PairState

SOURCE = "import"
"""Source of the events that an import makes."""
BEFORE_ALL = datetime(1970, 1, 1, tzinfo=UTC)
"""When an imported decision was made, as far as is known: before any decision of a person here."""
BATCH = 8
"""Samples a transaction: others wait for the lock while their images are judged, half a second."""
EXAMPLES = 100
LONGEST = {"key": 40, "identity": 255, "source": 255, "licence": 255}
LONGEST |= {"consent": 255, "annotator": 255}
LONGEST_VERSION = 64
LARGEST_ROUND = 2**31


@dataclass
class ImportReport:
    """What an import did.

    Attributes:
        samples: samples in the set.
        added: triplets that came in, anew or with another decision than an earlier import's.
        known: triplets that were imported before.
        kept: triplets whose pair a person here has decided on: that decision stays.
        identities: new identities.
        images: new images.
        left: how many triplets were set aside.
        examples: the first of those, with the reason.
    """

    samples: int = 0
    added: int = 0
    known: int = 0
    kept: int = 0
    identities: int = 0
    images: int = 0
    left: int = 0
    examples: list[SetAside] = field(default_factory=list)

    def set_aside(self, left: SetAside) -> None:
        """Count a triplet that is set aside."""
        self.left += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(left)


def import_shards(
    store: Store,
    settings: Settings,
    location: Path,
    *,
    again: Collection[str] = (),
    progress: Advance = silent,
) -> ImportReport:
    """Take a published RefSel-HQ set into the store.

    A few triplets are written at a time, so that an import that was stopped goes on where it was, and
    memory does not grow with the set. What does not fit what the store knows (an identity in another
    split or under another licence, an image of somebody else, another face region) is set aside.

    Args:
        store: the store.
        settings: the seed is read from it, for the places of new pairs.
        location: what `engine export` wrote, or one of its versions.
        again: people, as SOURCE/NAME, who were removed (`engine forget`) and may come in again; all
            others that were removed are set aside.
        progress: called with the number of samples done and of all.

    Raises:
        NobodyForgottenError: somebody who is to come in again was never removed.
        ShardError: if there is no version, its index is damaged, or a shard is no tar.
        UnsafeMemberError: if a shard holds a member that is not a plain file of a triplet.
    """
    if again:
        with store.writing() as session:
            for called in again:
                source, _, name = called.partition("/")
                let_back(session, source, [name])
    report = ImportReport(samples=sum(len(shard.samples) for shard in Index(location).shards()))
    samples = read_published(location, set_aside=report.set_aside)
    while batch := list(islice(samples, BATCH)):
        fresh = list(_fresh(store, batch, report))
        for published in fresh:
            for name, data in published.members.items():
                (store.images if name.endswith(".jpg") else store.masks).put(data)
        with store.writing() as session:
            for published in fresh:
                _Importing(session, settings.seed, published, report).run()
        done = report.added + report.known + report.kept + report.left
        progress(done, report.samples)
    return report


def _fresh(store: Store, batch: list[Published], report: ImportReport) -> Iterator[Published]:
    """The samples that were not imported before and can be."""
    keys = [_event_key(published) for published in batch]
    with store.reading() as session:
        known = set(session.scalars(select(Event.key).where(Event.key.in_(keys))))
    for key, published in zip(keys, batch, strict=True):
        if key in known:
            report.known += 1
            continue
        try:
            _check(published)
        except ValueError as error:
            report.set_aside(SetAside(published.triplet.key, str(error)))
        else:
            yield published


def _event_key(published: Published) -> str:
    """Names the decision: the same however often and from whichever copy it is imported."""
    described = json.loads(describe(published.triplet))
    if described["consent"] == NOT_STATED:
        del described["consent"]  # a decision keeps its name that was imported before there was any
    whole = hashlib.sha256(canonical(described))
    for _, data in sorted(published.members.items()):
        whole.update(hashlib.sha256(data).digest())
    return f"import:{published.triplet.key}:{whole.hexdigest()}"


def _check(published: Published) -> None:
    """ValueError says what of a sample the store could not hold."""
    triplet = published.triplet
    texts = {name: (getattr(triplet, name), longest) for name, longest in LONGEST.items()}
    if triplet.model_version is not None:
        texts["model_version"] = (triplet.model_version, LONGEST_VERSION)
    for name, (value, longest) in texts.items():
        if not isinstance(value, str) or not 0 < len(value) <= longest or "\0" in value:
            raise ValueError(f"{name} is not a text of at most {longest} characters")
    if not _name(triplet):
        raise ValueError(f"identity {triplet.identity!r} names nobody")
    if not 0 <= triplet.round < LARGEST_ROUND:
        raise ValueError(f"there is no round {triplet.round}")
    if not triplet.status.reviewed:
        raise ValueError(f"its status is {triplet.status}: only reviewed triplets are imported")
    if published.members["gt.jpg"] == published.members["ref.jpg"]:
        raise ValueError("the ground truth is its own reference")
    region = decode_mask(published.members["ref.region.png"])
    outside = int((decode_mask(published.members["mask.png"]) & ~region).sum())
    if outside:
        raise ValueError(f"{outside} px of the mask lie outside the face region")


class _LeftOut(Exception):  # noqa: N818 - it names a finding
    """A triplet that does not fit what the store knows."""


class _Importing:
    """The import of one triplet, inside a transaction that others share.

    Everything is looked at before the first row is added, so that a triplet that does not fit leaves
    nothing behind.
    """

    def __init__(
        self, session: Session, seed: int, published: Published, report: ImportReport
    ) -> None:
        self._session = session
        self._seed = seed
        self._triplet = published.triplet
        self._members = published.members
        self._report = report
        self._key = _event_key(published)
        self._hashes = {
            name: hashlib.sha256(data).hexdigest() for name, data in published.members.items()
        }

    def run(self) -> None:
        """Import it, or count why not."""
        try:
            self._import()
        except (_LeftOut, ValueError) as error:
            self._report.set_aside(SetAside(self._triplet.key, str(error)))

    def _import(self) -> None:
        there = select(Event.id).where(Event.key == self._key)
        if self._session.scalar(there) is not None:  # it came twice, or by another import
            self._report.known += 1
            return
        identity = self._known_identity()
        images = {member: self._known_image(member, identity) for member in ("gt", "ref")}
        pair = self._known_pair(images["gt"], images["ref"])
        state = self._session.get(PairState, pair.id) if pair else None
        if state is not None and state.event_id is not None:
            decided = self._session.get_one(Event, state.event_id)
            if decided.source != SOURCE:
                self._report.kept += 1
                return
        new = {member: self._new_image(member) for member in images if images[member] is None}
        if identity is None:
            identity = self._new_identity()
        if identity.licence == NOT_STATED:
            identity.licence = self._triplet.licence
        if identity.consent == NOT_STATED:
            identity.consent = self._triplet.consent
        for image in new.values():
            image.identity_id = identity.id
            self._session.add(image)
        self._session.flush()
        self._report.images += len(new)
        gt, ref = (images[member] or new[member] for member in ("gt", "ref"))
        pair = pair or add_pair(self._session, gt, ref, self._seed, key=self._triplet.key)
        assert pair is not None  # noqa: S101 - it was looked for
        self._decide(pair)
        self._report.added += 1

    def _known_identity(self) -> Identity | None:
        triplet = self._triplet
        query = select(Identity).where(
            Identity.source == triplet.source, Identity.name == _name(triplet)
        )
        identity = self._session.scalars(query).one_or_none()
        if identity is None:
            if forgotten(self._session, triplet.source, [_name(triplet)]):
                raise _LeftOut(f"identity {triplet.identity} {forgotten_detail(triplet.identity)}")
            return None
        if identity.split != triplet.split:
            raise _LeftOut(
                f"identity {triplet.identity} is in split {identity.split} here and in "
                f"{triplet.split} there"
            )
        if identity.licence not in (NOT_STATED, triplet.licence):
            raise _LeftOut(
                f"identity {triplet.identity} is under the licence {identity.licence!r} here and "
                f"under {triplet.licence!r} there"
            )
        if identity.consent not in (NOT_STATED, triplet.consent):
            raise _LeftOut(
                f"identity {triplet.identity} consents to {identity.consent!r} here and to "
                f"{triplet.consent!r} there"
            )
        return identity

    def _known_image(self, member: str, identity: Identity | None) -> Image | None:
        query = select(Image).where(Image.sha256 == self._hashes[f"{member}.jpg"])
        image = self._session.scalars(query).one_or_none()
        if image is None:
            return None
        if identity is None or image.identity_id != identity.id:
            owner = self._session.get_one(Identity, image.identity_id)
            raise _LeftOut(
                f"its {member}.jpg is an image of {owner.source}/{owner.name} here, not of "
                f"{self._triplet.identity}"
            )
        if image.region_sha256 != self._hashes[f"{member}.region.png"]:
            raise _LeftOut(f"the face region of its {member}.jpg is another one here")
        return image

    def _known_pair(self, gt: Image | None, ref: Image | None) -> Pair | None:
        if gt and ref:
            query = select(Pair).where(Pair.gt_id == gt.id, Pair.ref_id == ref.id)
            pair = self._session.scalars(query).one_or_none()
            if pair:
                return pair
        if self._session.scalar(select(Pair.id).where(Pair.key == self._triplet.key)) is not None:
            raise _LeftOut("another pair has its key here")
        return None

    def _new_identity(self) -> Identity:
        triplet, name = self._triplet, _name(self._triplet)
        self._report.identities += 1
        return add_identities(
            self._session,
            [name],
            self._seed,
            triplet.source,
            triplet.licence,
            consent=triplet.consent,
            split=triplet.split,
        )[name]

    def _new_image(self, member: str) -> Image:
        """An image whose file is the set's own, so that its name and hash are those of the member."""
        triplet, sha256 = self._triplet, self._hashes[f"{member}.jpg"]
        pixels = decode_rgb(self._members[f"{member}.jpg"])
        region = decode_mask(self._members[f"{member}.region.png"])
        points: tuple[Point, ...] = getattr(triplet, f"{member}_points")
        return Image(
            name=f"{triplet.key}.{member}.jpg",
            source_sha256=sha256,
            sha256=sha256,
            region_sha256=self._hashes[f"{member}.region.png"],
            phash=getattr(triplet, f"{member}_phash"),
            sharpness=sharpness(pixels, region),
            five_points=[list(point) for point in points],
        )

    def _decide(self, pair: Pair) -> None:
        """Append the decision and bring the pair's state up to date."""
        triplet = self._triplet
        before = self._session.get(PairState, pair.id)
        self._session.add(
            Event(
                key=self._key,
                pair_id=pair.id,
                kind=EventKind.SUBMITTED,
                source=SOURCE,
                actor=triplet.annotator,
                annotation_updated_at=BEFORE_ALL,
                status=triplet.status,
                mask_before=before.mask_sha256 if before else None,
                mask_after=self._hashes["mask.png"],
                conflicts=frozenset(triplet.conflicts),
                model_version=triplet.model_version,
                round=triplet.round,
            )
        )
        self._session.flush()
        derive(self._session, pair.id)


def _name(triplet: Triplet) -> str:
    """The identity's name within its source."""
    return triplet.identity.removeprefix(f"{triplet.source}/")
