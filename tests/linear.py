"""Images of 16 pixels, and the logits that a linear network of three classes has for them."""

import numpy as np
import torch

from harness.data import LabelledImages

WEIGHTS = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)
IMAGES = LabelledImages(
    torch.randint(
        0, 256, (70, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    ),
    torch.arange(70) % 3,
    ("a", "b", "c"),
    "made",
    "test",
)
EXPECTED = IMAGES.pixels.flatten(1).numpy().astype(np.float32) / 255 @ WEIGHTS
