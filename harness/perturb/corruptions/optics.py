"""Corruptions of sharpness: blur.

Images are (N, H, W, C) float32 in [0, 1]; each image has its own generator in `draws`. OpenCV gets one image at a time,
so the others of a batch have no effect.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from harness.perturb.corruptions.kind import Kind, pixels_at_28

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SOFT = 0.4
"""Standard deviation, in pixels at 28 x 28, of the blur before and after glass; the largest of CIFAR-10-C."""
_STEPS = 16
"""Subpixel steps of OpenCV's lines."""


def gaussian_blur(images: np.ndarray, deviation: float, _draws: Sequence[np.random.Generator]) -> np.ndarray:
    """Blur by a normal distribution of this standard deviation."""
    import cv2

    sigma = deviation * pixels_at_28(images)
    return np.stack([cv2.GaussianBlur(image, (0, 0), sigma) for image in images]).reshape(images.shape)


def motion_blur(images: np.ndarray, length: float, draws: Sequence[np.random.Generator]) -> np.ndarray:
    """Blur each image along a line of this length, within 45° of the horizontal."""
    import cv2

    strokes = [_stroke(length * pixels_at_28(images), draw.uniform(-math.pi / 4, math.pi / 4)) for draw in draws]
    smeared = [cv2.filter2D(image, -1, stroke) for image, stroke in zip(images, strokes, strict=True)]
    return np.stack(smeared).reshape(images.shape)


def _stroke(length: float, angle: float) -> np.ndarray:
    """Return an antialiased line through the center of a square, with a sum of 1."""
    import cv2

    reach = math.ceil(length / 2) + 1
    middle, x, y = reach * _STEPS, length / 2 * math.cos(angle) * _STEPS, length / 2 * math.sin(angle) * _STEPS
    start, end = ((round(middle + side * x), round(middle + side * y)) for side in (-1, 1))
    canvas = np.zeros((2 * reach + 1, 2 * reach + 1), dtype=np.uint8)
    cv2.line(canvas, start, end, (255,), 1, cv2.LINE_AA, int(math.log2(_STEPS)))
    return np.asarray(canvas / np.float32(canvas.sum(dtype=np.int64)), dtype=np.float32)


def glass_blur(images: np.ndarray, reach: float, draws: Sequence[np.random.Generator]) -> np.ndarray:
    """Take each pixel from a random position up to `reach` pixels away, between two slight blurs.

    H&D swap neighbors one after the other instead.
    """
    import cv2

    unit = pixels_at_28(images)
    height, width = images.shape[1:3]
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    seen = []
    for image, draw in zip(images, draws, strict=True):
        x, y = (2 * draw.random((2, height, width), dtype=np.float32) - 1) * np.float32(reach * unit)
        soft = cv2.GaussianBlur(image, (0, 0), _SOFT * unit)
        moved = cv2.remap(soft, columns + x, rows + y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        seen.append(cv2.GaussianBlur(moved, (0, 0), _SOFT * unit))
    return np.stack(seen).reshape(images.shape)


KINDS: Mapping[str, Kind] = {
    # Standard deviation in pixels: the second, fourth and last of CIFAR-10-C, then 1.5 and 2 times the last.
    "gaussian-blur": Kind(gaussian_blur, (0.6, 0.8, 1.0, 1.5, 2.0)),
    # Length of the line in pixels, within 45° of the horizontal as in H&D; the lengths are our own.
    "motion-blur": Kind(motion_blur, (2, 4, 6, 8, 10)),
    # Largest distance of a pixel's source along each axis, in pixels; CIFAR-10-C moves by 1, once or twice.
    "glass-blur": Kind(glass_blur, (0.5, 1.0, 1.5, 2.0, 2.5)),
}
