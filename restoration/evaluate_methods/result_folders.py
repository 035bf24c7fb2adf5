"""A test set and the result folders of several methods: which images belong together, decoded once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from dataset_engine.shards.prefetch import prefetch
from restoration.metrics import Face

Image = NDArray[np.uint8]
SUFFIXES: Final = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})
REGION_SUFFIX: Final = ".region.png"
INPUT: Final = "input"
"""Name of the degraded input where it stands among the methods."""


@dataclass
class Problems:
    """Files that could not be used, by name, with the reason; everything else goes on."""

    found: list[str] = field(default_factory=list)

    def add(self, path: Path, reason: str) -> None:
        """Note a file or folder."""
        line = f"{path}: {reason}"
        if line not in self.found:
            self.found.append(line)


@dataclass(frozen=True)
class Entry:
    """One test face: its files by role, and each method's by the method's name."""

    name: str
    truth: Path | None
    degraded: Path | None
    reference: Path | None
    region: Path | None
    restored: Mapping[str, Path]


@dataclass(frozen=True, eq=False)
class Loaded:
    """One test face, decoded: for the metrics, and the input for pictures."""

    face: Face
    degraded: Image | None


def method_folders(given: Sequence[str]) -> dict[str, Path]:
    """Methods' folders by name, from words of the form NAME=FOLDER.

    Raises:
        ValueError: a word has another form, or a name is there twice.
    """
    found: dict[str, Path] = {}
    for word in given:
        name, sign, folder = word.partition("=")
        if not (name and sign and folder):
            raise ValueError(f"{word!r} names no method's folder; give NAME=FOLDER")
        if name in found or name == INPUT:
            raise ValueError(f"{name!r} cannot be taken for another folder; give another name")
        found[name] = Path(folder)
    return found


def find_entries(
    test_set: Path, methods: Mapping[str, Path], problems: Problems
) -> tuple[Entry, ...]:
    """Match a test set's faces with every method's images by their names without suffix.

    Args:
        test_set: a folder with `gt`, `lq` and `ref`, or those of them that there are.
        methods: each one's folder of restored images.
        problems: gets what is missing, left over or there twice.

    Raises:
        ValueError: the test set has neither `gt` nor `ref` nor `lq`, or a method's folder is missing.
    """
    roles = {role: _images(test_set / role, problems) for role in ("gt", "lq", "ref")}
    names = sorted(roles["gt"] or roles["lq"] or roles["ref"])
    if not names:
        raise ValueError(
            f"{test_set} has no images in gt, lq or ref; give the folder of a test set"
        )
    results = {}
    for method, folder in methods.items():
        if not folder.is_dir():
            raise ValueError(f"{folder} is no folder; give NAME=FOLDER with {method}'s results")
        results[method] = _images(folder, problems)
        for name in sorted(results[method].keys() - set(names)):
            problems.add(results[method][name], "no face of the test set has this name")
        for name in sorted(set(names) - results[method].keys()):
            problems.add(folder / name, f"missing: {method} is measured without it")
    for role, images in roles.items():
        for name in sorted(set(names) - images.keys()) if images else ():
            problems.add(test_set / role / name, "missing")
    return tuple(
        Entry(
            name,
            roles["gt"].get(name),
            roles["lq"].get(name),
            roles["ref"].get(name),
            _region(test_set / "gt" / f"{name}{REGION_SUFFIX}"),
            {method: images[name] for method, images in results.items() if name in images},
        )
        for name in names
    )


def load_entries(
    entries: tuple[Entry, ...], problems: Problems, *, workers: int = 2
) -> Iterator[Loaded]:
    """Decode each face's images, ahead of their use; what does not fit is left out and named.

    A face whose ground truth cannot be read is left out whole. A method's image counts if it has the
    ground truth's size (without one, the size of the first method's).
    """
    for loaded in prefetch(lambda entry: _load(entry, problems), entries, workers=workers, ahead=8):
        if loaded is not None:
            yield loaded


def read_rgb(path: Path, problems: Problems) -> Image | None:
    """Uint8 RGB [H, W, 3], whatever depth and channels the file has; None if it does not decode."""
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
        image = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB) if data.size else None
    except (OSError, cv2.error) as error:
        problems.add(path, f"cannot be read ({str(error).splitlines()[0]})")
        return None
    if image is None:
        problems.add(path, "no readable image")
        return None
    return np.asarray(image, np.uint8)


def _load(entry: Entry, problems: Problems) -> Loaded | None:
    truth = None if entry.truth is None else read_rgb(entry.truth, problems)
    if entry.truth is not None and truth is None:
        return None
    degraded = None if entry.degraded is None else read_rgb(entry.degraded, problems)
    size = None if truth is None else truth.shape
    restored = {}
    for method, path in entry.restored.items():
        image = read_rgb(path, problems)
        if image is None:
            continue
        size = size or image.shape
        if image.shape != size:
            found, wanted = (f"{one[1]}x{one[0]}" for one in (image.shape, size))
            problems.add(path, f"{found} px, not {wanted}: left out")
            continue
        restored[method] = image
    if degraded is not None and size is not None:
        if degraded.shape != size:
            # Some test sets keep their inputs small; a metric needs them at the truth's size.
            full = (size[1], size[0])
            degraded = np.asarray(cv2.resize(degraded, full, interpolation=cv2.INTER_CUBIC))
        restored = {INPUT: degraded, **restored}
    if not restored:
        return None
    reference = None if entry.reference is None else read_rgb(entry.reference, problems)
    if reference is not None and size is not None and reference.shape != size:
        assert entry.reference is not None  # noqa: S101 - it was read
        problems.add(entry.reference, "not of the ground truth's size: ID-Ref is left out")
        reference = None
    region = None if entry.region is None else read_rgb(entry.region, problems)
    inside = None
    if region is not None and size is not None and region.shape == size:
        inside = np.asarray(region[..., 0] > 127, np.bool_)
    return Loaded(Face(entry.name, restored, truth, reference, inside), degraded)


def _images(folder: Path, problems: Problems) -> dict[str, Path]:
    found: dict[str, Path] = {}
    if not folder.is_dir():
        return found
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in SUFFIXES or path.name.endswith(REGION_SUFFIX):
            continue
        if path.stem in found:
            problems.add(path, f"{found[path.stem].name} has the same name and was taken")
            continue
        found[path.stem] = path
    return found


def _region(path: Path) -> Path | None:
    return path if path.is_file() else None
