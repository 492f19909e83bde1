"""Corruptions of single pixels and rows: noise, and what a sensor does not deliver.

Images are (N, H, W, C) float32 in [0, 1]; each image has its own generator in `draws`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence


def gaussian(images: np.ndarray, deviation: float, draws: Sequence[np.random.Generator]) -> np.ndarray:
    """Add normal noise of this standard deviation to each pixel and channel."""
    shape = images.shape[1:]
    noise = np.stack([draw.standard_normal(shape, dtype=np.float32) for draw in draws])
    return np.asarray(images + np.float32(deviation) * noise)


def shot(images: np.ndarray, photons: float, draws: Sequence[np.random.Generator]) -> np.ndarray:
    """Count photons, of which a white pixel has this many on average."""
    counted = [draw.poisson(image * photons) for draw, image in zip(draws, images, strict=True)]
    return np.stack(counted).astype(np.float32) / photons


def impulse(images: np.ndarray, share: float, draws: Sequence[np.random.Generator]) -> np.ndarray:
    """Make this share of the values black or white, by halves."""
    lots = _uniform(images.shape[1:], draws)
    return np.where(lots < share / 2, 0, np.where(lots > 1 - share / 2, 1, images)).astype(np.float32)


def dead_pixels(images: np.ndarray, share: float, draws: Sequence[np.random.Generator]) -> np.ndarray:
    """Make this share of the pixels black, in all channels."""
    return images * (_uniform((*images.shape[1:3], 1), draws) >= share)


def missing_rows(images: np.ndarray, share: float, draws: Sequence[np.random.Generator]) -> np.ndarray:
    """Make this share of the rows black, rounded to whole rows."""
    height = images.shape[1]
    ranks = np.stack([draw.permutation(height) for draw in draws])[:, :, None, None]
    return np.asarray(images * (ranks >= round(share * height)))


def _uniform(shape: tuple[int, ...], draws: Sequence[np.random.Generator]) -> np.ndarray:
    return np.stack([draw.random(shape, dtype=np.float32) for draw in draws])
