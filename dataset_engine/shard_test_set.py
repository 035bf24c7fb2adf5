"""A test set in the form of Celeb-Ref-Test, of the test identities of a RefSel-HQ export.

Their pairs were reviewed and their people kept out of training by the export's split, so that a model
trained on the export is tested on them at once.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dataset_engine.degradation import preset
from dataset_engine.faces.quality import perceptual_hash
from dataset_engine.ingest_files import Left
from dataset_engine.progress import Advance
from dataset_engine.shards.errors import CorruptSampleError
from dataset_engine.shards.reader import RefSelSample, RefSelShards
from dataset_engine.taxonomy import Split
from dataset_engine.testing_sets import BuiltSet, Pair, add_pair, face_seed, finish_set
from dataset_engine.trained_people import TrainedPeople


def build_shard_test_set(
    location: Path,
    out: Path,
    *,
    count: int = 1000,
    seed: int = 0,
    degradation: str = "paper",
    trained: TrainedPeople | None = None,
    progress: Advance | None = None,
) -> BuiltSet:
    """Write `gt`, `ref` and `lq` of one pair of every test identity, drawn in seeded order.

    Beside each ground truth lies its face region, NAME.region.png. The same export and seed give the
    same bytes. A damaged pair is set aside, and the identity's next one is taken.

    Args:
        location: RefSel-HQ shards.
        out: the set's folder.
        count: identities at most.
        seed: of the draw and of the degradations.
        degradation: a preset's name.
        trained: who else may not be in it, of another training.
        progress: is told how many identities are done.

    Raises:
        ShardError: there is no export, or it is broken as a whole.
        ValueError: it has no test pairs, or none that can be read.
    """
    samples = RefSelShards(location, Split.TEST, verify=True)
    made, settings = BuiltSet(), preset(degradation)
    pairs: dict[str, list[int]] = {}
    for index in np.random.default_rng([seed, 6]).permutation(len(samples)).tolist():
        pairs.setdefault(samples.identity(index), []).append(index)
    for identity, indices in pairs.items():
        if len(made.faces) == count:
            break
        if trained is not None and trained.named(identity.rpartition("/")[2]):
            made.left.append(Left(location, "trained_on", f"identity {identity} was trained on"))
            continue
        sample = _first_sound(samples, indices, location, made.left)
        if sample is None:
            continue
        pictures = (sample.gt, sample.reference)
        if trained is not None and any(trained.pictured(perceptual_hash(one)) for one in pictures):
            detail = f"a picture of {sample.key} was trained on"
            made.left.append(Left(location, "trained_on", detail))
            continue
        add_pair(
            made,
            out,
            identity.replace("/", "-"),
            Pair(sample.gt, sample.gt_region, sample.reference),
            degradation=settings,
            seed=face_seed(seed, identity),
            sources={"pair": sample.key},
        )
        if progress is not None:
            progress(len(made.faces), min(count, len(pairs)))
    finish_set(
        made,
        out,
        form="test identities of RefSel-HQ",
        seed=seed,
        degradation=degradation,
        asked=count,
        version=samples.version,
    )
    return made


def _first_sound(
    samples: RefSelShards, indices: list[int], location: Path, left: list[Left]
) -> RefSelSample | None:
    """The first of these pairs that can be read; those before it are set aside."""
    for index in indices:
        try:
            return samples[index]
        except CorruptSampleError as error:
            left.append(Left(location, "corrupt", str(error)))
    return None
