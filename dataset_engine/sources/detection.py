"""Which form a source has: told by what lies in it."""

from __future__ import annotations

from pathlib import Path

from dataset_engine.sources.celeba import IDENTITY_LIST, find_list
from dataset_engine.sources.form import Form
from dataset_engine.sources.restoration_inputs import find_folders

FORMS = (
    "a folder with a folder per identity (IDENTITY/IMAGE), "
    f"a folder with CelebA's {IDENTITY_LIST}, "
    "a folder with LQ/ and ref/ (or reference/), "
    "or a CSV file with the columns gt and reference"
)


def detect(path: Path) -> Form:
    """The form of a source.

    Raises:
        NotADirectoryError: there is nothing there, or a folder in which nothing fits.
    """
    if path.is_file():
        return Form.PAIRS
    if not path.is_dir():
        raise NotADirectoryError(f"{path} is not a folder and not a file: give {FORMS}")
    if find_list(path):
        return Form.CELEBA
    if find_folders(path):
        return Form.INPUTS
    if any(entry.is_dir() for entry in path.iterdir() if not entry.name.startswith(".")):
        return Form.IDENTITIES
    raise NotADirectoryError(f"the folder {path} holds nothing that can be taken in: give {FORMS}")
