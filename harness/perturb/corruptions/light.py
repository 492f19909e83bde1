"""Corruptions of light: contrast, brightness, gamma and fog.

Images are (N, H, W, C) float32 in [0, 1]; each image has its own generator in `draws`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.perturb.corruptions.kind import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_RGB = 3


def contrast(images: np.ndarray, share: float, _draws: Sequence[np.random.Generator]) -> np.ndarray:
    """Reduce the deviations of each channel from its mean to this share (H&D)."""
    means = images.mean(axis=(1, 2), keepdims=True, dtype=np.float64).astype(np.float32)
    return np.asarray((images - means) * np.float32(share) + means)


def brightness(images: np.ndarray, added: float, _draws: Sequence[np.random.Generator]) -> np.ndarray:
    """Add to the value in hue, saturation and value (H&D); without three channels, add to each."""
    import cv2

    if images.shape[3] != _RGB:
        return images + added
    brighter = np.empty_like(images)
    for at, image in enumerate(images):
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
        hsv[..., 2] = np.minimum(hsv[..., 2] + added, 1)
        brighter[at] = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    return brighter


def gamma(images: np.ndarray, exponent: float, _draws: Sequence[np.random.Generator]) -> np.ndarray:
    """Raise each value to this power."""
    # 8-bit images have 256 values, and a table gives the same bits in batches of any size.
    table = ((np.arange(256) / 255) ** exponent).astype(np.float32)
    return np.asarray(table[np.rint(images * 255).astype(np.uint8)])


def fog(images: np.ndarray, amount: float, draws: Sequence[np.random.Generator]) -> np.ndarray:
    """Mix this much fog into each image, and keep its largest value (H&D).

    The fog is a sum of random grids; each is twice as fine and half as strong as the one before. H&D use the
    diamond-square algorithm.
    """
    height, width = images.shape[1:3]
    clouds = np.stack([_cloud(height, width, draw) for draw in draws])[..., None]
    largest = images.max(axis=(1, 2, 3), keepdims=True)
    return np.asarray((images + amount * clouds) * largest / np.maximum(largest + amount, 1e-6))


def _cloud(height: int, width: int, draw: np.random.Generator) -> np.ndarray:
    """Return fog between 0 and 1, (H, W)."""
    import cv2

    cloud, cells, strength = np.zeros((height, width), dtype=np.float32), 2, 1.0
    while cells <= min(height, width):
        grid = draw.random((cells, cells), dtype=np.float32)
        cloud += strength * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
        cells, strength = 2 * cells, strength / 2
    return np.asarray((cloud - cloud.min()) / max(float(np.ptp(cloud)), 1e-6))


KINDS: Mapping[str, Kind] = {
    # Share of the contrast that remains; CIFAR-10-C.
    "contrast": Kind(contrast, (0.75, 0.5, 0.4, 0.3, 0.15)),
    # Amount added to the brightness; CIFAR-10-C.
    "brightness": Kind(brightness, (0.05, 0.1, 0.15, 0.2, 0.3)),
    # Exponent of each pixel; above 1 it darkens. Our own, as H&D have none.
    "gamma": Kind(gamma, (1.4, 1.8, 2.2, 3.0, 4.0)),
    # Amount of fog for one part of image; CIFAR-10-C.
    "fog": Kind(fog, (0.2, 0.5, 0.75, 1.0, 1.5)),
}
