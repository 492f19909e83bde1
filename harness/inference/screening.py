"""Screening by bfloat16: its conditions, the evidence for a clear prediction, and the model that screens."""

from __future__ import annotations

import math
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, _FlopCounterMode

from harness.networks.process import evaluation_copy

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

TRIED = 250
"""Number of images for the comparison of both precisions before bfloat16 may screen. Calls with more images save that
time for any model. Calls with fewer take little time, except for a large network."""
TRIED_IF_LARGE = 64
"""The same for a large network, since more float32 passes would be much of a run. Calls with fewer images are not
screened."""
LARGE = 400_000_000
"""Multiplications per image of a large network; comparing `TRIED` images would take seconds."""
CAUTION = 4.0
"""A prediction is clear if its lead is above this many times the largest observed difference of a logit. The lead of a
wrong prediction is at most twice the difference, so this is twice the necessary factor."""
NEVER = float("inf")
"""The lead for a clear prediction if none is clear."""
_WITHOUT_BFLOAT16 = {"SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI"}
"""Limits of oneDNN's instruction set without bfloat16."""
_LOWERED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""Layers with weights that autocast uses in bfloat16."""


def has_bfloat16(device: torch.device) -> bool:
    """Return whether the device computes in bfloat16 faster than in float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # oneDNN's own test: without AVX-512, bfloat16 is emulated and slower than float32. The test only looks at the
    # processor, but an environment variable may limit oneDNN further.
    limited = os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper() in _WITHOUT_BFLOAT16
    supported = bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())
    return device.type == "cpu" and supported and not limited


def tried_for(multiplications: int) -> int:
    """Return the number of images for the comparison of precisions, by a network's multiplications per image."""
    return TRIED_IF_LARGE if multiplications >= LARGE else TRIED


def clear_lead(screened: np.ndarray, reference: np.ndarray) -> float:
    """Return the lead above which a bfloat16 prediction is clear, given logits (N, classes) of both precisions.

    With fewer images, the largest observed difference is smaller, so the factor of caution grows. It uses the quotient
    of logarithms. For the largest draw of a normal distribution, the quotient of their roots would suffice.
    """
    caution = CAUTION * max(1.0, math.log(TRIED) / math.log(max(2, len(reference))))
    return caution * float(abs(screened - reference).max())


def multiplications_per_image(model: nn.Module, image: Tensor) -> int:
    """Return the number of multiplications in matrix products and convolutions for an image, (1, C, H, W).

    Zero for a model that cannot be counted, such as one that fails on a single image.
    """
    counter = FlopCounterMode(display=False)
    try:
        with torch.no_grad(), _without_compiler(), counter:
            model(image)
    except Exception:  # The model may raise any exception; a later pass raises it again and reports it.
        return 0
    return counter.get_total_flops() // 2


@contextmanager
def _without_compiler() -> Iterator[None]:
    """Count without torch's compiler, since its import takes 2 s of CPU time and only compiled models need it."""
    count = getattr(_FlopCounterMode.__torch_dispatch__, "__wrapped__", None)
    if count is None or "torch._dynamo" in sys.modules:
        yield
        return
    count.__dynamo_disable = count  # Torch's own attribute for the compiler's version of this function.
    try:
        yield
    finally:
        vars(count).pop("__dynamo_disable", None)  # Another thread may have removed it already.


def lowered(model: nn.Module) -> nn.Module:
    """Return a copy for autocast to bfloat16 with weights cast once; it gives the same bits as autocast alone.

    In inference, autocast casts the weights again in each batch, which takes longer than a small batch of a large
    transformer. Weights of attention itself are not cast: if they differ in precision from its input, torch takes a
    path that is several times slower.
    """
    copied = evaluation_copy(model)
    for layer in copied.modules():
        if type(layer) in _LOWERED:
            layer.to(torch.bfloat16)
    return copied
