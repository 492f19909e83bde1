"""Corruptions by storage: JPEG and pixelation.

Images are (N, H, W, C) float32 in [0, 1]; each image has its own generator in `draws`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.perturb.corruptions.kind import Kind, pixels_at_28

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_RGB = 3


def jpeg(images: np.ndarray, quality: float, _draws: Sequence[np.random.Generator]) -> np.ndarray:
    """Compress each image by JPEG at this quality; other numbers of channels than 1 and 3 one by one."""
    import cv2

    pixels = np.rint(images * 255).astype(np.uint8)
    if pixels.shape[3] == _RGB:
        coded = [image[..., ::-1] for image in pixels]  # OpenCV's order is blue, green, red.
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
    """Merge `factor` pixels along each axis into their mean, at the original image size."""
    import cv2

    height, width = images.shape[1:3]
    side = factor * pixels_at_28(images)
    small = max(round(width / side), 1), max(round(height / side), 1)
    coarse = [cv2.resize(image, small, interpolation=cv2.INTER_AREA) for image in images]
    shown = [cv2.resize(image, (width, height), interpolation=cv2.INTER_NEAREST) for image in coarse]
    return np.stack(shown).reshape(images.shape)


KINDS: Mapping[str, Kind] = {
    # JPEG's quality of 100; ImageNet-C.
    "jpeg": Kind(jpeg, (25, 18, 15, 10, 7)),
    # Pixels merged along each axis; our own, since H&D's share of the size is no whole pixel in small images.
    "pixelate": Kind(pixelate, (2.0, 2.5, 3.0, 3.5, 4.0)),
}
