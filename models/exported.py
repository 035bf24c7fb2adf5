"""RefSel compiled by OpenVINO, which answers faster than PyTorch on CPUs (docs/proposals.md)."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import tempfile
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.optimisation import bf16_supported
from models.refsel import CONFIG_NAME, CONFLICT, CONSISTENT, WEIGHTS_NAME, RefSel, RefSelConfig

GRAPH_NAME = "margins.xml"


class ExportedRefSel:
    """A RefSel for full batches of one length, at its working size, on this machine's CPU.

    Attributes:
        streams: how many batches it can answer at once, each on one core and so without waiting for
            another core after every layer. Each batch is asked for from a thread of its own.
    """

    def __init__(self, config: RefSelConfig, graph: Path) -> None:
        """Compile an exported graph, in bfloat16 where the CPU has it."""
        import openvino  # noqa: PLC0415 - an optional extra, slow to import

        self.config = config
        precision = "bf16" if bf16_supported(torch.device("cpu")) else "f32"
        self.streams = torch.get_num_threads()
        self._compiled = openvino.Core().compile_model(
            str(graph),
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": precision,
                "INFERENCE_NUM_THREADS": self.streams,
                "NUM_STREAMS": self.streams,
            },
        )
        self._requests = threading.local()

    def margins(
        self, firsts: Sequence[NDArray[np.uint8]], references: Sequence[NDArray[np.uint8]]
    ) -> NDArray[np.float32]:
        """Float32[B, side, side], as `models.inference.margins`; B is the length it was exported for."""
        if not hasattr(self._requests, "own"):
            self._requests.own = self._compiled.create_infer_request()
        found: Any = self._requests.own.infer([np.stack(firsts), np.stack(references)])
        return np.array(found[0], np.float32)


def load_fastest(folder: Path, batch_size: int, *, on_gpu: bool) -> RefSel | ExportedRefSel:
    """Load a saved RefSel for many answers: on the GPU, or through OpenVINO where it is installed.

    Raises:
        CheckpointError: the model cannot be loaded.
    """
    if not on_gpu and importlib.util.find_spec("openvino") is not None:
        return load_exported(folder, batch_size)
    return RefSel.from_pretrained(folder).to("cuda" if on_gpu else "cpu")


def load_exported(folder: Path, batch_size: int) -> ExportedRefSel:
    """Load a saved RefSel through OpenVINO; the export is kept beside it, under a hash of the weights.

    Args:
        folder: what `RefSel.save_pretrained` wrote.
        batch_size: pairs of each forward pass.

    Raises:
        CheckpointError: the model cannot be loaded.
    """
    model = RefSel.from_pretrained(folder)
    digest = hashlib.sha256()
    for name in (CONFIG_NAME, WEIGHTS_NAME):
        digest.update((folder / name).read_bytes())
    exported = folder / f"openvino-{digest.hexdigest()[:16]}-bytes-{batch_size}"
    if not exported.exists():
        _export(model, exported, batch_size)
    return ExportedRefSel(model.config, exported / GRAPH_NAME)


class _Margins(nn.Module):
    def __init__(self, model: RefSel) -> None:
        super().__init__()
        self.model = model

    def forward(self, first: Tensor, reference: Tensor) -> Tensor:
        both = (images.permute(0, 3, 1, 2).to(torch.float32) / 255 for images in (first, reference))
        logits: Tensor = self.model(*both)
        return logits[:, CONSISTENT] - logits[:, CONFLICT]


def _export(model: RefSel, folder: Path, batch_size: int) -> None:
    import openvino  # noqa: PLC0415
    from openvino.frontend import FrontEndManager  # noqa: PLC0415
    from openvino.frontend.pytorch.ts_decoder import (  # noqa: PLC0415
        TorchScriptPythonDecoder,
    )

    side = model.config.working_size or 512
    example = torch.zeros(batch_size, side, side, 3, dtype=torch.uint8)
    # the tracer warns that checks of shapes become constants, and that it is an old one: both are wanted
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        trace: Any = torch.jit.trace
        traced = trace(_Margins(model).eval(), (example, example))
        # the front end itself, since `openvino.convert_model` reports its use to OpenVINO's makers
        front = FrontEndManager().load_by_framework("pytorch")
        decoder = TorchScriptPythonDecoder(traced)  # the front end keeps no reference of its own
        graph = front.convert(front.load(decoder))
    for given in graph.inputs:
        given.get_node().set_partial_shape(openvino.PartialShape([batch_size, side, side, 3]))
        given.get_node().set_element_type(openvino.Type.u8)
    graph.validate_nodes_and_infer_types()
    scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".exporting-"))
    try:
        openvino.save_model(graph, str(scratch / GRAPH_NAME), compress_to_fp16=False)
        try:
            scratch.rename(folder)
        except OSError:
            if not folder.exists():  # else somebody else has just exported the same
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
