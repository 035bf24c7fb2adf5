"""The published weights that a preset needs: what, from where, on which terms, and whether it is here.

Nothing is downloaded. Sizes and hashes are those that huggingface.co and torchvision show for the files
or for copies of them; what could not be found there stays unknown here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.markup import escape

from models.refsel import CheckpointError
from models.restorer import Phase
from restoration.refstar_config import Backbone, RefStarTraining
from restoration.refstar_networks import used_losses

ARC2FACE: Final = "huggingface.co/FoivosPar/Arc2Face"
STABLE_DIFFUSION: Final = "huggingface.co/stable-diffusion-v1-5/stable-diffusion-v1-5"
RESEARCH: Final = "non-commercial research (InsightFace)"
OPENRAIL: Final = "CreativeML OpenRAIL-M"

UNET: Final = 859_520_964
VAE: Final = 83_653_863
TEXT_ENCODER: Final = 123_060_480
POSITIONS: Final = 77
"""Older text encoders hold the numbers of their positions as well."""


@dataclass(frozen=True)
class WeightFile:
    """One file that a preset needs."""

    path: str
    """In the weights folder."""
    what: str
    source: str
    licence: str
    size: str = "size unknown"
    """As its publisher shows it."""
    sha256: str = ""
    """In hex, or its first digits where no more are published; empty where none are."""
    parameters: tuple[int, ...] = ()
    """How many numbers a safetensors file may hold; of another base model it holds others."""
    otherwise: str = ""
    """A file that will do in its place."""


@dataclass(frozen=True)
class Found:
    """A file and what is the matter with it."""

    file: WeightFile
    problem: str
    """Empty where it is here and nothing speaks against it."""
    hashed: bool
    """Whether its SHA-256 was compared."""


def needed_weights(
    settings: RefStarTraining, phases: Iterable[Phase] = tuple(Phase)
) -> list[WeightFile]:
    """The files that these phases need; from Phase II on the backbone is in the phase before."""
    paths, chosen = settings.weights, tuple(phases)
    files: list[WeightFile] = []
    if Phase.ONE in chosen and settings.backbone is not Backbone.TINY:
        files += _backbone(settings)
    used = set().union(*(used_losses(settings, phase) for phase in chosen))
    if "perceptual" in used:
        files.append(
            WeightFile(
                paths.vgg19,
                "VGG19 (perceptual loss)",
                "download.pytorch.org/models/vgg19-dcbb9e9d.pth",
                "BSD-3-Clause (torchvision)",
                sha256="dcbb9e9d",  # torchvision puts the first digits into the name
            )
        )
    if "identity" in used:
        files.append(
            WeightFile(
                paths.identity,
                f"ArcFace r{paths.identity_depth} (identity loss)",
                "github.com/deepinsight/insightface (arcface_torch), backbone.pth",
                RESEARCH,
            )
        )
    return files


def _backbone(settings: RefStarTraining) -> list[WeightFile]:
    paths = settings.weights
    person = settings.backbone is Backbone.ARC2FACE
    unet = WeightFile(
        f"{paths.unet}/diffusion_pytorch_model.safetensors",
        "UNet",
        f"{ARC2FACE}, arc2face/" if person else f"{STABLE_DIFFUSION}, unet/",
        "MIT" if person else OPENRAIL,
        "3.44 GB",
        "d2377c16b7135650ca375817a4812a999194fba1f081e39117bd54e50dacc784"
        if person
        else "19da7aaa4b880e59d56843f1fcb4dd9b599c28a1d9d9af7c1143057c8ffae9f1",
        (UNET,),
    )
    vae = WeightFile(
        f"{paths.vae}/diffusion_pytorch_model.safetensors",
        "VAE",
        f"{STABLE_DIFFUSION}, vae/",
        OPENRAIL,
        "335 MB",
        "a2b5134f4dbc140d9c11f11cba3233099e00af40f262f136c691fb7d38d2194c",
        (VAE,),
    )
    encoder = WeightFile(
        f"{paths.text_encoder}/model.safetensors",
        "CLIP text encoder" + (" (Arc2Face's own)" if person else ""),
        f"{ARC2FACE}, encoder/" if person else f"{STABLE_DIFFUSION}, text_encoder/",
        "MIT" if person else OPENRAIL,
        "size unknown" if person else "492 MB",
        parameters=(TEXT_ENCODER, TEXT_ENCODER + POSITIONS),
        otherwise=f"{paths.text_encoder}/pytorch_model.bin",
    )
    files = [
        _small(unet, f"{paths.unet}/config.json"),
        _small(vae, f"{paths.vae}/config.json"),
        _small(encoder, f"{paths.text_encoder}/config.json"),
        WeightFile(
            f"{paths.tokenizer}/vocab.json",
            "CLIP tokenizer",
            f"{STABLE_DIFFUSION}, tokenizer/",
            OPENRAIL,
            "small",
        ),
        WeightFile(
            f"{paths.tokenizer}/merges.txt",
            "CLIP tokenizer",
            f"{STABLE_DIFFUSION}, tokenizer/",
            OPENRAIL,
            "small",
        ),
        encoder,
    ]
    if person:
        files.append(
            WeightFile(
                paths.arcface,
                "ArcFace (who the person is)",
                f"{ARC2FACE}, arcface.onnx",
                RESEARCH,
                "261 MB",
                "ec639a0429b4819130d1405a2d3b38beaa4cc4a6c5bd9cf48b94fdf65461de83",
            )
        )
    return [*files, vae, unet]


def _small(file: WeightFile, path: str) -> WeightFile:
    return WeightFile(path, f"{file.what}'s config", file.source, file.licence, "small")


def look_for(file: WeightFile, folder: Path, *, hashes: bool) -> Found:
    """Look at one file; without `hashes` its head alone is read, whatever its size."""
    path = folder / file.path
    if not path.is_file() and file.otherwise and (folder / file.otherwise).is_file():
        path = folder / file.otherwise
    if not path.is_file():
        return Found(file, "missing", hashed=False)
    if path.stat().st_size == 0:
        return Found(file, "empty", hashed=False)
    if path.suffix == ".safetensors":
        problem = _wrong_safetensors(path, file.parameters)
        if problem:
            return Found(file, problem, hashed=False)
    if hashes and file.sha256 and path.name == Path(file.path).name:
        found = _sha256(path)
        if not found.startswith(file.sha256):
            problem = f"its SHA-256 is {found[:12]}..., not {file.sha256[:12]}...: copy it again"
            return Found(file, problem, hashed=True)
        return Found(file, "", hashed=True)
    return Found(file, "", hashed=False)


def _wrong_safetensors(path: Path, parameters: tuple[int, ...]) -> str:
    """What speaks against a safetensors file, by its head and its length."""
    try:
        with path.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            if length > path.stat().st_size:
                return "cut off or no safetensors file: copy it again"
            head = json.loads(opened.read(length))
            tensors = [one for name, one in head.items() if name != "__metadata__"]
            end = 8 + length + max((one["data_offsets"][1] for one in tensors), default=0)
            count = sum(_product(one["shape"]) for one in tensors)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "no safetensors file: copy it again"
    if end != path.stat().st_size:
        return f"{path.stat().st_size} bytes, not the {end} that its head says: copy it again"
    if parameters and count not in parameters:
        return f"{count:,} numbers, not {parameters[0]:,}: the weights of another base model"
    return ""


def _product(shape: list[int]) -> int:
    product = 1
    for side in shape:
        product *= side
    return product


def _sha256(path: Path) -> str:
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def check_weights(
    settings: RefStarTraining,
    folder: Path,
    phases: Iterable[Phase] = tuple(Phase),
    *,
    hashes: bool = False,
) -> list[Found]:
    """Look at every file that these phases need."""
    return [look_for(file, folder, hashes=hashes) for file in needed_weights(settings, phases)]


def require_weights(settings: RefStarTraining, folder: Path, phase: Phase) -> None:
    """See that a phase can begin, before anything is opened.

    Raises:
        CheckpointError: files are missing, cut off, or of another base model; all in one message.
    """
    wrong = [found for found in check_weights(settings, folder, (phase,)) if found.problem]
    if wrong:
        listed = "; ".join(f"{one.file.path}: {one.problem}" for one in wrong)
        raise CheckpointError(
            f"the weights in {folder} are not complete: {listed}. engine weights says where each "
            "file comes from"
        )


def weights_list(found: list[Found]) -> str:
    """Some lines for each file, with rich's markup, for a terminal of 80 columns."""
    lines = []
    for one in found:
        file = one.file
        lines.append(f"[bold]{escape(file.path)}[/]  {_state(one)}")
        lines.append(f"  {file.what}, {file.size}; {file.licence}")
        lines.append(f"  from {file.source}")
        digits = file.sha256 + ("..." if 0 < len(file.sha256) < 64 else "")
        lines.append(f"  SHA-256 {digits or 'not published, or not known here'}")
    return "\n".join(lines)


def _state(found: Found) -> str:
    if found.problem:
        return f"[red]{escape(found.problem)}[/]"
    return "[green]here, with the right hash[/]" if found.hashed else "[green]here[/]"
