"""What every training loop here shares: learning rate, averaged weights, precision, threads."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def learning_rate_at(step: int, steps: int, peak: float, warm_up: float = 0.1) -> float:
    """Learning rate of `step` (from 0) of `steps`: linear warm-up to `peak`, then half a cosine to 0.

    A pure function of the step, so that a resumed run needs no scheduler state.
    """
    warm = max(1, round(warm_up * steps))
    if step < warm:
        return peak * (step + 1) / warm
    done = (step - warm) / max(1, steps - warm)
    return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def averaged(model: nn.Module, decay: float) -> AveragedModel:
    """Exponential moving average of weights and buffers; `.module` is the averaged model."""
    average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    return AveragedModel(model, multi_avg_fn=average, use_buffers=True)


def bf16_supported(device: torch.device) -> bool:
    """Whether bfloat16 is fast on `device`, and not emulated."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu" and torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return False


def autocast(device: torch.device) -> AbstractContextManager[object]:
    """Forward passes in bfloat16 where the device has it."""
    return torch.autocast(device.type, torch.bfloat16, enabled=bf16_supported(device))


@contextmanager
def core_left_to_data() -> Iterator[None]:
    """All of torch's threads but one, so that the next examples are made on a core of their own.

    Threads of one operation wait for each other: one that has to share its core holds up all.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads - 1))
    try:
        yield
    finally:
        torch.set_num_threads(threads)
