"""Sets that restorers are tested on, built from the user's own copies of the photographs.

The paper ("Testing Data") draws 1,000 identities of CelebA, an image of each as the reference and
another as the ground truth, which is degraded (Celeb-Ref-Test); and it pairs 60 low-resolution
photographs with a reference each (RealRef60). A set is a folder of PNG files, and a list of them with
their hashes. Nobody who was trained on may be in it. `shard_test_set` makes one of a RefSel-HQ export.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from dataset_engine.degradation import DegradationSettings, degrade, preset
from dataset_engine.faces.analyser import FaceAnalyser
from dataset_engine.faces.cut_out import cut_out
from dataset_engine.faces.prepare import PreparedImage, PrepareSettings, SetAside, prepare_image
from dataset_engine.faces.quality import hamming
from dataset_engine.ingest_files import Left, images_below
from dataset_engine.progress import Advance
from dataset_engine.same_picture import NEAR_DUPLICATE_BITS
from dataset_engine.shards.files import write_whole
from dataset_engine.sources.celeba import CelebA
from dataset_engine.sources.restoration_inputs import find_folders
from dataset_engine.trained_people import TrainedPeople

LIST: Final = "test-set.json"
SIDE: Final = 512


@dataclass(frozen=True)
class SetFace:
    """One face of a set; the hashes are those of its PNG files."""

    name: str
    sha256: dict[str, str]
    """By path in the set's folder."""
    sources: dict[str, str]
    """The files' names in the user's copy."""
    seed: int | None = None
    """Of the degradation."""


@dataclass(frozen=True, eq=False)
class Pair:
    """What a face of a set is made of: aligned uint8 RGB [512, 512, 3], and the truth's face region."""

    gt: NDArray[np.uint8]
    gt_region: NDArray[np.bool_]
    reference: NDArray[np.uint8]


@dataclass
class BuiltSet:
    """What was built."""

    faces: list[SetFace] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)

    @property
    def sha256(self) -> str:
        """One hash for the whole set: of all names and hashes of files."""
        said = json.dumps([[one.name, one.sha256] for one in self.faces], sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()


def build_celeb_ref_test(
    celeba: Path,
    out: Path,
    analyser: FaceAnalyser,
    *,
    count: int = 1000,
    seed: int = 0,
    degradation: str = "paper",
    trained: TrainedPeople | None = None,
    prepare: PrepareSettings | None = None,
    progress: Advance | None = None,
) -> BuiltSet:
    """Draw identities of CelebA in seeded order and write `gt`, `ref` and `lq` of each.

    Beside each ground truth lies its face region, NAME.region.png. The same files and seed give the
    same bytes.

    Args:
        celeba: the folder with CelebA's list of identities.
        out: the set's folder.
        analyser: finds faces.
        count: identities.
        seed: of the draw and of the degradations.
        degradation: a preset's name.
        trained: who may not be in it.
        prepare: what an image must be; None for the defaults.
        progress: is told how many faces are done.

    Raises:
        NotADirectoryError: the list of identities is not there.
        ValueError: nobody can be drawn.
    """
    source, made, settings = CelebA(celeba.resolve()), BuiltSet(), preset(degradation)
    for identity in source.identities(seed):
        if len(made.faces) == count:
            break
        if trained is not None and trained.named(identity):
            made.left.append(Left(source.list, "trained_on", f"identity {identity} was trained on"))
            continue
        paths = source.images([identity], seed)[identity]
        pair = _two(paths, analyser, prepare, trained, made.left)
        if pair is None:
            continue
        (gt_path, gt), (ref_path, reference) = pair
        add_pair(
            made,
            out,
            identity,
            Pair(gt.image, gt.region, reference.image),
            degradation=settings,
            seed=face_seed(seed, identity),
            sources={"gt": gt_path.name, "ref": ref_path.name},
        )
        if progress is not None:
            progress(len(made.faces), count)
    finish_set(made, out, form="Celeb-Ref-Test", seed=seed, degradation=degradation, asked=count)
    return made


def build_real_set(
    folder: Path,
    out: Path,
    analyser: FaceAnalyser,
    *,
    trained: TrainedPeople | None = None,
    prepare: PrepareSettings | None = None,
    progress: Advance | None = None,
) -> BuiltSet:
    """Align photographs and references of `LQ/` and `ref/`, matched by name, into `lq` and `ref`.

    Raises:
        NotADirectoryError: the two folders are not there.
        ValueError: no pair can be used.
    """
    folders = find_folders(folder)
    if folders is None:
        raise NotADirectoryError(
            f"{folder} does not hold the folders LQ and ref (or reference): put the degraded "
            "pictures into the one and their references, under the same names, into the other"
        )
    pictures, references = ({path.stem: path for path in images_below(one)} for one in folders)
    made = BuiltSet()
    for name in sorted(references.keys() - pictures.keys()):
        made.left.append(Left(references[name], "no_input", "no picture of this name"))
    for done, (name, path) in enumerate(sorted(pictures.items()), start=1):
        if name not in references:
            made.left.append(Left(path, "no_reference", "no reference of this name"))
        else:
            try:
                real = _real(path, references[name], analyser, prepare)
            except _NotUsable as error:
                made.left.append(error.left)
            else:
                if trained is not None and (trained.named(name) or trained.pictured(real.phash)):
                    detail = f"{name} was trained on"
                    made.left.append(Left(references[name], "trained_on", detail))
                else:
                    files = {f"lq/{name}.png": real.lq, f"ref/{name}.png": real.reference}
                    names = {"lq": path.name, "ref": references[name].name}
                    made.faces.append(SetFace(name, _write(out, files), names))
        if progress is not None:
            progress(done, len(pictures))
    finish_set(made, out, form="RealRef60's form", seed=None, degradation=None, asked=len(pictures))
    return made


@dataclass(frozen=True, eq=False)
class _Real:
    """A photograph and its reference, uint8 RGB [512, 512, 3] both; the hash is the reference's."""

    lq: NDArray[np.uint8]
    reference: NDArray[np.uint8]
    phash: str


class _NotUsable(Exception):  # noqa: N818 - it names a finding
    def __init__(self, left: Left) -> None:
        super().__init__(left.detail)
        self.left = left


def _real(
    path: Path, reference: Path, analyser: FaceAnalyser, prepare: PrepareSettings | None
) -> _Real:
    at = reference
    try:
        clean = prepare_image(reference, analyser, prepare)
        at = path
        cut = cut_out(path, analyser)
    except SetAside as error:
        raise _NotUsable(Left(at, str(error.reason), error.detail)) from error
    way = cv2.INTER_AREA if cut.aligned.shape[0] > SIDE else cv2.INTER_CUBIC
    lq = np.asarray(cv2.resize(cut.aligned, (SIDE, SIDE), interpolation=way), np.uint8)
    return _Real(lq, clean.image, clean.phash)


def _two(
    paths: list[Path],
    analyser: FaceAnalyser,
    prepare: PrepareSettings | None,
    trained: TrainedPeople | None,
    left: list[Left],
) -> list[tuple[Path, PreparedImage]] | None:
    """The first two images that can be used and are two photographs; None where there are not two."""
    usable: list[tuple[Path, PreparedImage]] = []
    for path in paths:
        try:
            image = prepare_image(path, analyser, prepare)
        except SetAside as error:
            left.append(Left(path, str(error.reason), error.detail))
            continue
        if trained is not None and trained.pictured(image.phash):
            left.append(Left(path, "trained_on", "this picture was trained on"))
            return None
        usable.append((path, image))
        for pair in combinations(usable, 2):
            if hamming(pair[0][1].phash, pair[1][1].phash) > NEAR_DUPLICATE_BITS:
                return list(pair)
    if paths:
        detail = f"{len(usable)} of {len(paths)} images can be used: two are needed"
        left.append(Left(paths[0], "too_few_images", detail))
    return None


def face_seed(seed: int, name: str) -> int:
    """A seed that depends on the name and on nothing else that is in the set."""
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def add_pair(
    made: BuiltSet,
    out: Path,
    name: str,
    pair: Pair,
    *,
    degradation: DegradationSettings,
    seed: int,
    sources: dict[str, str],
) -> None:
    """Write `gt`, its region, `ref` and `lq` of one face, and list it in `made`."""
    files = {
        f"gt/{name}.png": pair.gt,
        f"gt/{name}.region.png": pair.gt_region.astype(np.uint8) * np.uint8(255),
        f"ref/{name}.png": pair.reference,
        f"lq/{name}.png": degrade(pair.gt, seed, degradation).image,
    }
    made.faces.append(SetFace(name, _write(out, files), sources, seed))


def _write(out: Path, files: dict[str, NDArray[np.uint8]]) -> dict[str, str]:
    hashes = {}
    for name, image in files.items():
        pixels = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image
        data = cv2.imencode(".png", pixels)[1].tobytes()
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, data)
        hashes[name] = hashlib.sha256(data).hexdigest()
    return hashes


def finish_set(made: BuiltSet, out: Path, **said: object) -> None:
    """Write the set's list.

    Raises:
        ValueError: there is no face in it.
    """
    if not made.faces:
        reasons = ", ".join(sorted({one.reason for one in made.left})) or "there is nobody"
        raise ValueError(f"no test set could be built ({reasons}); see that the pictures are right")
    document = {
        **said,
        "sha256": made.sha256,
        "faces": [asdict(one) for one in made.faces],
        "set_aside": [
            {"file": one.file, "reason": one.reason, "detail": one.detail} for one in made.left
        ],
    }
    write_whole(out / LIST, json.dumps(document, indent=1).encode())


def changed_files(out: Path) -> Iterator[str]:
    """The files of a set that are missing or not as its list says.

    Raises:
        FileNotFoundError: the folder has no list.
    """
    for face in json.loads((out / LIST).read_text(encoding="utf-8"))["faces"]:
        for name, sha256 in face["sha256"].items():
            path = out / name
            if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
                yield name
