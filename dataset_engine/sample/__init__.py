"""The embedded sample: seeded, parametric faces with exact face regions and consistency masks.

`write_sample` makes identity folders that `engine ingest` takes; `truth` recomputes the exact mask
of any pair from the seed alone; `mark_areas` says where lasting marks show.
"""

from dataset_engine.sample.files import (
    identity_index,
    identity_name,
    shot_index,
    shot_name,
    write_sample,
)
from dataset_engine.sample.geometry import TEMPLATE
from dataset_engine.sample.render import Person, Photograph, shoot
from dataset_engine.sample.truth import PairTruth, compare, mark_areas, truth

__all__ = [
    "TEMPLATE",
    "PairTruth",
    "Person",
    "Photograph",
    "compare",
    "identity_index",
    "identity_name",
    "mark_areas",
    "shoot",
    "shot_index",
    "shot_name",
    "truth",
    "write_sample",
]
