"""Celeb-Ref-Test, drawn from CelebA: a reference and a ground truth of each of 1,000 identities.

The paper ("Testing Data") selects 1,000 identities of CelebA with one random image as the reference
and another as the ground truth. Here the seed orders the identities, and each one's images; an identity
takes part if two of its images can be used, so that the same seed draws the same set on any machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from sqlalchemy import select

from dataset_engine.faces.prepare import PrepareSettings
from dataset_engine.ingest_files import Found, Left, judge, printable
from dataset_engine.preparing import prepared
from dataset_engine.progress import Advance
from dataset_engine.sources.keeper import admit, sibling
from dataset_engine.sources.source_ingest import Given, SourceIngest
from dataset_engine.store.pairs import LAST, add_identities, add_pair, seeded_fraction
from dataset_engine.store.tables import Identity, Image, Pair
from dataset_engine.taxonomy import Split

IDENTITY_LIST = "identity_CelebA.txt"
"""Lines such as ``000001.jpg 2880``: an image of CelebA and the number of its identity."""
HQ_MAPPING = "CelebA-HQ-to-CelebA-mapping.txt"
"""Lines such as ``0 119613 119614.jpg``: number in CelebA-HQ, number and name in CelebA."""
HQ_FOLDERS = ("CelebA-HQ-img", "celeba_hq")
FOLDERS = ("img_celeba", "img_align_celeba_png", "img_align_celeba")
"""Where CelebA's images may lie, the largest pictures first; otherwise beside the list."""
SUFFIXES = (".jpg", ".png")


def find_list(root: Path) -> Path | None:
    """The list of identities in a folder, or in its ``Anno``; None where there is none."""
    candidates = (root / IDENTITY_LIST, root / "Anno" / IDENTITY_LIST)
    return next((path for path in candidates if path.is_file()), None)


class CelebA:
    """A folder of CelebA: its list of identities, and where their images lie.

    Args:
        root: the resolved folder.

    Raises:
        NotADirectoryError: the list is not there.
    """

    def __init__(self, root: Path) -> None:
        found = find_list(root)
        if found is None:
            raise NotADirectoryError(
                f"{root} has no {IDENTITY_LIST}, neither in the folder nor in Anno/: put CelebA's "
                "list of identities there"
            )
        self.root = root
        self.list = found
        self.folder = _folder(root, FOLDERS) or root
        self._hq: dict[str, str] | None = None
        folder, mapping = _folder(root, HQ_FOLDERS), root / HQ_MAPPING
        if folder and mapping.is_file():
            self.folder, self._hq = folder, _hq_names(mapping)

    def identities(self, seed: int) -> list[str]:
        """All identities, in seeded order."""
        return _shuffled({identity for _, identity in self._lines()}, seed)

    def images(self, identities: Iterable[str], seed: int) -> dict[str, list[Path]]:
        """The images of some identities that lie here, each identity's in seeded order."""
        names: dict[str, list[str]] = {identity: [] for identity in identities}
        for name, identity in self._lines():
            if identity in names:
                names[identity].append(name)
        return {
            identity: [path for name in _shuffled(of, seed) if (path := self._path(name))]
            for identity, of in names.items()
        }

    def _lines(self) -> Iterator[tuple[str, str]]:
        with self.list.open(encoding="utf-8", errors="backslashreplace") as lines:
            for line in lines:
                name, *rest = line.split()[:3] or [""]
                if len(rest) == 1 and line.rstrip("\n").isprintable():
                    yield name, rest[0][:255]

    def _path(self, name: str) -> Path | None:
        stem = Path(name).stem if self._hq is None else self._hq.get(name)
        if stem is None:
            return None
        paths = (self.folder / f"{stem}{suffix}" for suffix in SUFFIXES)
        return next((path for path in paths if path.is_symlink() or path.exists()), None)


@dataclass
class _Candidate:
    """An identity whose two images are looked for."""

    name: str
    listed: int
    untried: list[Path]
    usable: list[Image] = field(default_factory=list)


class CelebRefTest(SourceIngest):
    """One ingest of Celeb-Ref-Test."""

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        self._celeba = CelebA(given.root)

    def take(
        self, count: int, prepare: PrepareSettings, workers: int | None, progress: Advance
    ) -> None:
        """Draw pairs until there are as many as asked for, those of earlier runs among them."""
        seed = self._settings.seed
        there = self._paired()
        self._report.known += 2 * len(there)
        names = [name for name in self._celeba.identities(seed) if name not in there]
        removed = self._forgotten(names)  # another identity of the order takes the place
        order = iter([name for name in names if name not in removed])
        done = len(there)
        progress(done, count)
        under_way: dict[str, _Candidate] = {}
        while True:
            self._open(under_way, list(islice(order, max(0, count - done - len(under_way)))))
            if not under_way:
                break
            for result in prepared(self._next_files(under_way), prepare, workers):
                if isinstance(result, Left):
                    self._left.add(result)
                    continue
                candidate = under_way[result.found.identity]
                image = admit(self._store, result, [sibling(one) for one in candidate.usable])
                if isinstance(image, Left):
                    self._left.add(image)
                    continue
                candidate.usable.append(image)
                if len(candidate.usable) == 2 and self._write(under_way.pop(candidate.name)):
                    done += 1
                    progress(done, count)
        if done < count:
            self._report.notes.append(
                f"only {done} of {count} identities have two images that can be used"
            )

    def _paired(self) -> set[str]:
        """The identities of earlier runs, which keep their pairs."""
        query = select(Identity.name).join(Pair).where(Identity.source == self._source).distinct()
        with self._store.reading() as session:
            return set(session.scalars(query))

    def _open(self, under_way: dict[str, _Candidate], names: list[str]) -> None:
        if names:
            images = self._celeba.images(names, self._settings.seed)
            under_way |= {name: _Candidate(name, len(of), of) for name, of in images.items()}

    def _next_files(self, under_way: dict[str, _Candidate]) -> list[Found]:
        """As many images of each identity as it still needs; one that has too few is set aside."""
        files: list[Found] = []
        for candidate in list(under_way.values()):
            needed = 2 - len(candidate.usable)
            if len(candidate.untried) < needed:
                del under_way[candidate.name]
                detail = (
                    f"identity {candidate.name} has {candidate.listed} images here, of which fewer "
                    "than two can be used"
                )
                self._left.add(Left(self._place(candidate), "too_few_images", detail))
                continue
            chosen, candidate.untried = candidate.untried[:needed], candidate.untried[needed:]
            for path in chosen:
                entry = judge(self._celeba.root, candidate.name, path)
                if isinstance(entry, Left):
                    self._left.add(entry)
                else:
                    files.append(entry)
        return files

    def _write(self, candidate: _Candidate) -> bool:
        """The first of an identity's two images is the ground truth, the second the reference."""
        settings = self._settings
        gt, reference = candidate.usable
        with self._store.writing() as session:
            identity = add_identities(
                session,
                [candidate.name],
                settings.seed,
                self._source,
                settings.licence,
                consent=settings.consent,
                split=Split.TEST,
            )[candidate.name]
            if identity.split == Split.TEST:
                for image in (gt, reference):
                    image.identity_id = identity.id
                    session.add(image)
                session.flush()
                add_pair(session, gt, reference, settings.seed, rank=LAST)
                self._report.added += 2
                self._report.pairs += 1
                return True
        detail = f"identity {candidate.name} is in the store already, in split {identity.split}"
        self._left.add(Left(self._place(candidate), "split_differs", detail))
        return False

    def _place(self, candidate: _Candidate) -> Path:
        return Path(printable(f"{self._celeba.list}:{candidate.name}"))


def _shuffled(names: Iterable[str], seed: int) -> list[str]:
    return sorted(names, key=lambda name: (seeded_fraction(seed, "celeb-ref-test", name), name))


def _folder(root: Path, names: Iterable[str]) -> Path | None:
    places = (base / name for name in names for base in (root, root / "Img"))
    return next((place for place in places if place.is_dir()), None)


def _hq_names(mapping: Path) -> dict[str, str]:
    """CelebA-HQ's number of each of CelebA's names that it has."""
    with mapping.open(encoding="utf-8", errors="backslashreplace") as lines:
        columns = (line.split() for line in lines)
        return {name: number for number, _, name in (row for row in columns if len(row) == 3)}
