"""When bfloat16 may find clear answers before float32 does, on how much evidence, and the model that does it."""

from __future__ import annotations

import math
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, _FlopCounterMode

from harness.networks.evaluation import evaluation_copy

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

TRIED = 250
"""Images on which the two precisions are compared before bfloat16 may screen. A call for more pays it back, for any
model; a call for fewer takes no time worth saving, but of a large network."""
TRIED_IF_LARGE = 64
"""The same for a large network, of which more passes in float32 would be a good part of a run. A call for fewer images
is not screened."""
LARGE = 400_000_000
"""Multiplications per image from which on a network is large, so that comparing `TRIED` images takes seconds."""
CAUTION = 4.0
"""An answer is clear when its lead is above this many times the largest difference of a logit seen then. The lead of a
wrong answer is at most twice the difference, so that this is twice what it must be."""
NEVER = float("inf")
"""The lead from which on answers are clear where none is."""
_WITHOUT_BFLOAT16 = {"SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI"}
"""Instruction sets that oneDNN may be limited to, in which it has no bfloat16."""
_LOWERED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""Layers whose weights autocast takes in bfloat16."""


def has_bfloat16(device: torch.device) -> bool:
    """Return whether the device computes in bfloat16 faster than in float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # oneDNN's own test: without AVX-512 bfloat16 is emulated, and slower than float32. It asks the processor alone,
    # though oneDNN may have been told to stay below.
    limited = os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper() in _WITHOUT_BFLOAT16
    supported = bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())
    return device.type == "cpu" and supported and not limited


def tried_for(multiplications: int) -> int:
    """Return on how many images the precisions are compared, for a network of so many multiplications per image."""
    return TRIED_IF_LARGE if multiplications >= LARGE else TRIED


def clear_lead(screened: np.ndarray, reference: np.ndarray) -> float:
    """Return the lead from which on a bfloat16 answer is clear, given logits (N, classes) of both precisions.

    The fewer images, the smaller the largest difference among them that is to be expected, and the more caution. The
    quotient of logarithms is more than that of the largest of so many draws from a normal distribution, which goes by
    the root of the logarithm.
    """
    caution = CAUTION * max(1.0, math.log(TRIED) / math.log(max(2, len(reference))))
    return caution * float(abs(screened - reference).max())


def multiplications_per_image(model: nn.Module, image: Tensor) -> int:
    """Return how many multiplications of matrices and convolutions a model makes of an image, (1, C, H, W).

    Zero for a model that cannot be counted, such as one that fails on a single image.
    """
    counter = FlopCounterMode(display=False)
    try:
        with torch.no_grad(), _without_compiler(), counter:
            model(image)
    except Exception:  # A model's own, which may fail in any way; it is run again, where that is told.
        return 0
    return counter.get_total_flops() // 2


@contextmanager
def _without_compiler() -> Iterator[None]:
    """Count without torch's compiler, whose import takes 2 s of CPU time and serves compiled models alone."""
    count = getattr(_FlopCounterMode.__torch_dispatch__, "__wrapped__", None)
    if count is None or "torch._dynamo" in sys.modules:
        yield
        return
    count.__dynamo_disable = count  # Where torch keeps what its compiler makes of this function.
    try:
        yield
    finally:
        vars(count).pop("__dynamo_disable", None)  # Another thread may have done so.


def lowered(model: nn.Module) -> nn.Module:
    """Return a copy for autocast to bfloat16, its weights cast once; the same bits as if autocast cast them.

    Autocast casts the weights of a model that is not trained anew in each batch, which takes longer than a small batch
    of a large transformer. Weights of attention itself stay: in another precision than its input, torch takes a path
    that is several times slower.
    """
    copied = evaluation_copy(model)
    for layer in copied.modules():
        if type(layer) in _LOWERED:
            layer.to(torch.bfloat16)
    return copied
