"""A trained restorer on disk: safetensors in diffusers' and peft's own folders."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Final

from diffusers import AutoencoderKL, UNet2DConditionModel
from pydantic import TypeAdapter, ValidationError
from safetensors.torch import save_file
from torch import Tensor, nn

from models.autoencoder import Autoencoder, LatentAutoencoder, PixelUnshuffle
from models.backbones import open_unet, open_vae
from models.lora import base_state, load_adapter, save_adapter
from models.refsel import CheckpointError
from models.restorer import Restorer, RestorerConfig
from models.weights_file import fill, read_tensors, short

INDEX_NAME: Final = "pipeline.json"
FORMAT_VERSION: Final = 1
DIFFUSERS_NAME: Final = "diffusion_pytorch_model.safetensors"
REFERENCE_PARTS: Final = ("reference_net", "reference_attention")


def write_restorer(restorer: Restorer, folder: Path) -> None:
    """Write a restorer's parts into an empty folder.

    `unet` and `vae` load with diffusers alone, `unet_lora` and `vae_lora` with peft alone.
    """
    autoencoder = restorer.autoencoder
    described: dict[str, Any] = {"format": FORMAT_VERSION, "vae": None, "unshuffle": None}
    _write_diffusers(restorer.unet, folder / "unet")
    if isinstance(autoencoder, LatentAutoencoder):
        described["vae"] = "vae"
        _write_diffusers(autoencoder.vae, folder / "vae")
    else:
        described["unshuffle"] = autoencoder.factor
    for name, model in _adapted(restorer):
        save_adapter(model, folder / name)
    for name in REFERENCE_PARTS if restorer.reference_net is not None else ():
        (folder / name).mkdir()
        _write_tensors(
            restorer.get_submodule(name).state_dict(), folder / name / "model.safetensors"
        )
    described["reference"] = restorer.reference_net is not None
    described["restorer"] = dataclasses.asdict(restorer.config)
    text = json.dumps(described, indent=2)
    (folder / INDEX_NAME).write_text(text + "\n", encoding="utf-8")


def read_restorer(folder: Path) -> Restorer:
    """Load what `write_restorer` wrote, in evaluation mode and frozen.

    Raises:
        CheckpointError: a file is missing, broken, of another format, or does not fit.
    """
    described = _read_index(folder / INDEX_NAME)
    config = _read_config(described["restorer"], folder / INDEX_NAME)
    autoencoder: Autoencoder = (
        open_vae(folder / "vae")
        if described["vae"] is not None
        else PixelUnshuffle(int(described["unshuffle"]))
    )
    restorer = Restorer(open_unet(folder / "unet"), autoencoder, config)
    for name, model in _adapted(restorer):
        load_adapter(model, folder / name)
    if described["reference"]:
        restorer.add_reference()
        for name in REFERENCE_PARTS:
            path = folder / name / "model.safetensors"
            fill(restorer.get_submodule(name), read_tensors(path), path)
    return restorer.eval().requires_grad_(False)


def _adapted(restorer: Restorer) -> list[tuple[str, nn.Module]]:
    if restorer.config.lora is None:
        return []
    vae = restorer.autoencoder
    parts: list[tuple[str, nn.Module]] = [("unet_lora", restorer.unet)]
    return parts + ([("vae_lora", vae.vae)] if isinstance(vae, LatentAutoencoder) else [])


def _write_diffusers(model: UNet2DConditionModel | AutoencoderKL, folder: Path) -> None:
    model.save_config(folder)
    _write_tensors(base_state(model), folder / DIFFUSERS_NAME)


def _write_tensors(state: dict[str, Tensor], path: Path) -> None:
    save_file(
        {name: tensor.contiguous().cpu() for name, tensor in state.items()},
        path,
        metadata={"format": "pt"},
    )


def _read_index(path: Path) -> dict[str, Any]:
    try:
        described: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} cannot be read ({short(error)}); give the folder that save_pretrained wrote"
        ) from error
    wanted = {"format", "vae", "unshuffle", "reference", "restorer"}
    if (
        not isinstance(described, dict)
        or described.get("format") != FORMAT_VERSION
        or set(described) != wanted
    ):
        raise CheckpointError(
            f"{path} is no pipeline of format {FORMAT_VERSION}; save it with this version"
        )
    return described


def _read_config(fields: object, path: Path) -> RestorerConfig:
    try:
        config = TypeAdapter(RestorerConfig).validate_python(fields)
    except ValidationError as error:
        raise CheckpointError(f"{path}: {short(error)}; save it with this version") from error
    if json.loads(json.dumps(dataclasses.asdict(config))) != fields:
        raise CheckpointError(
            f"{path}: the restorer's fields are not this version's; save it with this version"
        )
    return config


class NewFolder:
    """A folder that is written beside its place and takes it whole, or not at all."""

    def __init__(self, folder: Path) -> None:
        """Prepare to write `folder`.

        Raises:
            FileExistsError: there is something there that is no pipeline, which would be lost.
        """
        empty = not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
        if not empty and not (folder / INDEX_NAME).is_file():
            raise FileExistsError(
                f"{folder} holds something that is no pipeline; give an empty or a new folder"
            )
        self.folder = folder

    def __enter__(self) -> Path:
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        made = tempfile.mkdtemp(dir=self.folder.parent, prefix=f".{self.folder.name}-")
        self._scratch = Path(made)
        self._written = self._scratch / "new"
        self._written.mkdir()
        return self._written

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                for path in self._written.rglob("*"):
                    if path.is_file():
                        with path.open("rb") as handle:
                            os.fsync(handle.fileno())
                if self.folder.exists():
                    self.folder.rename(self._scratch / "old")
                self._written.rename(self.folder)
        finally:
            shutil.rmtree(self._scratch, ignore_errors=True)
