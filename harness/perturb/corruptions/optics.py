"""Corruptions of sharpness: blur, JPEG and pixelation.

Images are (N, H, W, C) float32 in [0, 1]; each image has its own generator in `draws`. OpenCV sees one image at a time,
so that the others of a batch cannot matter.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

_SOFT = 0.4
"""Standard deviation, in pixels at 28 x 28, of the blur before and after glass; CIFAR-10-C's largest."""
_STEPS = 16
"""Parts of a pixel to which OpenCV's lines are drawn."""
_RGB = 3


def pixels_at_28(images: np.ndarray) -> float:
    """Return how many pixels of these images are one at 28 x 28, by the shorter side."""
    return float(min(images.shape[1:3])) / 28


def gaussian_blur(images: np.ndarray, deviation: float, _draws: Sequence[np.random.Generator]) -> np.ndarray:
    """Blur by a normal distribution of this standard deviation."""
    import cv2

    sigma = deviation * pixels_at_28(images)
    return np.stack([cv2.GaussianBlur(image, (0, 0), sigma) for image in images]).reshape(images.shape)


def motion_blur(images: np.ndarray, length: float, draws: Sequence[np.random.Generator]) -> np.ndarray:
    """Smear each image along a line of this length, within 45° of level."""
    import cv2

    strokes = [_stroke(length * pixels_at_28(images), draw.uniform(-math.pi / 4, math.pi / 4)) for draw in draws]
    smeared = [cv2.filter2D(image, -1, stroke) for image, stroke in zip(images, strokes, strict=True)]
    return np.stack(smeared).reshape(images.shape)


def _stroke(length: float, angle: float) -> np.ndarray:
    """Return a line through the middle of a square, smooth at its edges, that sums to 1."""
    import cv2

    reach = math.ceil(length / 2) + 1
    middle, x, y = reach * _STEPS, length / 2 * math.cos(angle) * _STEPS, length / 2 * math.sin(angle) * _STEPS
    start, end = ((round(middle + side * x), round(middle + side * y)) for side in (-1, 1))
    canvas = np.zeros((2 * reach + 1, 2 * reach + 1), dtype=np.uint8)
    cv2.line(canvas, start, end, (255,), 1, cv2.LINE_AA, int(math.log2(_STEPS)))
    return np.asarray(canvas / np.float32(canvas.sum(dtype=np.int64)), dtype=np.float32)


def glass_blur(images: np.ndarray, reach: float, draws: Sequence[np.random.Generator]) -> np.ndarray:
    """Take each pixel from a random place up to this many pixels away, between two slight blurs.

    H&D swap neighbours instead, one after the other.
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


def jpeg(images: np.ndarray, quality: float, _draws: Sequence[np.random.Generator]) -> np.ndarray:
    """Compress each image by JPEG at this quality; channels one by one, where images are not of one or three."""
    import cv2

    pixels = np.rint(images * 255).astype(np.uint8)
    if pixels.shape[3] == _RGB:
        coded = [image[..., ::-1] for image in pixels]  # OpenCV's blue comes first.
        reading = cv2.IMREAD_COLOR
    else:
        coded = list(pixels.transpose(0, 3, 1, 2).reshape(-1, *pixels.shape[1:3]))
        reading = cv2.IMREAD_GRAYSCALE
    settings = [cv2.IMWRITE_JPEG_QUALITY, int(quality)]
    read = np.stack([np.asarray(cv2.imdecode(cv2.imencode(".jpg", image, settings)[1], reading)) for image in coded])
    if pixels.shape[3] == _RGB:
        read = read[..., ::-1]
    else:
        read = read.reshape(len(pixels), -1, *pixels.shape[1:3]).transpose(0, 2, 3, 1)
    return read.astype(np.float32) / 255


def pixelate(images: np.ndarray, factor: float, _draws: Sequence[np.random.Generator]) -> np.ndarray:
    """Make one of as many pixels along each axis, the mean of those that it covers, and show it at the old size."""
    import cv2

    height, width = images.shape[1:3]
    side = factor * pixels_at_28(images)
    small = max(round(width / side), 1), max(round(height / side), 1)
    coarse = [cv2.resize(image, small, interpolation=cv2.INTER_AREA) for image in images]
    shown = [cv2.resize(image, (width, height), interpolation=cv2.INTER_NEAREST) for image in coarse]
    return np.stack(shown).reshape(images.shape)
