"""Corruptions of single pixels and rows that a sensor does not deliver.

Images are (N, H, W, C) float32 in [0, 1]; each image has its own generator in `draws`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.perturb.corruptions.kind import Kind, uniform

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def dead_pixels(images: np.ndarray, share: float, draws: Sequence[np.random.Generator]) -> np.ndarray:
    """Make this share of the pixels black, in all channels."""
    return images * (uniform((*images.shape[1:3], 1), draws) >= share)


def missing_rows(images: np.ndarray, share: float, draws: Sequence[np.random.Generator]) -> np.ndarray:
    """Make this share of the rows black, rounded to whole rows."""
    height = images.shape[1]
    ranks = np.stack([draw.permutation(height) for draw in draws])[:, :, None, None]
    return np.asarray(images * (ranks >= round(share * height)))


KINDS: Mapping[str, Kind] = {
    # Share of pixels that are black; ours.
    "dead-pixels": Kind(dead_pixels, (0.05, 0.1, 0.2, 0.3, 0.4)),
    # Share of rows that are black; ours.
    "missing-rows": Kind(missing_rows, (0.1, 0.2, 0.3, 0.4, 0.5)),
}
