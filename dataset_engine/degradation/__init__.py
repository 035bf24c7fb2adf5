"""I to I_LQ: Real-ESRGAN's second-order degradation with motion and defocus blur, seeded and fast.

`degrade(image, seed, preset("paper"))` gives the degraded image and every value drawn; `apply` makes the
same picture from those values again. `detail_kept` and `is_severe` say how much a degraded input shows.
"""

from dataset_engine.degradation.parameters import Parameters
from dataset_engine.degradation.pipeline import Degraded, apply, degrade
from dataset_engine.degradation.settings import DegradationSettings, preset, presets, read_presets
from dataset_engine.degradation.severity import detail_kept, detail_kept_by_band, is_severe

__all__ = [
    "DegradationSettings",
    "Degraded",
    "Parameters",
    "apply",
    "degrade",
    "detail_kept",
    "detail_kept_by_band",
    "is_severe",
    "preset",
    "presets",
    "read_presets",
]
