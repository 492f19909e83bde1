"""Corruptions of single pixels: noise.

Images are (N, H, W, C) float32 in [0, 1]; each image has its own generator in `draws`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.perturb.corruptions.kind import Kind, uniform

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def gaussian(images: np.ndarray, deviation: float, draws: Sequence[np.random.Generator]) -> np.ndarray:
    """Add normal noise of this standard deviation to each pixel and channel."""
    shape = images.shape[1:]
    noise = np.stack([draw.standard_normal(shape, dtype=np.float32) for draw in draws])
    return np.asarray(images + np.float32(deviation) * noise)


def shot(images: np.ndarray, photons: float, draws: Sequence[np.random.Generator]) -> np.ndarray:
    """Replace each value by a count of photons; a white pixel has `photons` on average."""
    counted = [draw.poisson(image * photons) for draw, image in zip(draws, images, strict=True)]
    return np.stack(counted).astype(np.float32) / photons


def impulse(images: np.ndarray, share: float, draws: Sequence[np.random.Generator]) -> np.ndarray:
    """Set this share of the values to black or white, half to each."""
    lots = uniform(images.shape[1:], draws)
    return np.where(lots < share / 2, 0, np.where(lots > 1 - share / 2, 1, images)).astype(np.float32)


KINDS: Mapping[str, Kind] = {
    # Standard deviation of a pixel; CIFAR-10-C.
    "gaussian-noise": Kind(gaussian, (0.04, 0.06, 0.08, 0.09, 0.10)),
    # Photons at full brightness; CIFAR-10-C.
    "shot-noise": Kind(shot, (500, 250, 100, 75, 50)),
    # Share of values that are black or white; CIFAR-10-C.
    "impulse-noise": Kind(impulse, (0.01, 0.02, 0.03, 0.05, 0.07)),
}
