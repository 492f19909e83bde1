"""Object masks: the pixels of each image that show the object, found by difference from a plain background.

Data may bring their own masks. Else a mask has the pixels that differ from the background, with gaps closed and holes
filled. A dark print on a shirt therefore belongs to the shirt, and so does the area inside a bag's handle.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from harness.base.errors import NotApplicableError
from harness.data.rows import in_parts

if TYPE_CHECKING:
    from harness.data import LabelledImages

DIFFERS = 16
"""Least difference from the background in some channel of an object's pixel, in levels of 255."""
MIN_PLAIN = 2 / 3
"""Least share of border pixels with the background's color for a plain background."""
MIN_PIXELS = 4
"""Size of the smallest spot after closing; smaller ones are noise."""


@lru_cache(maxsize=8)
def object_masks(images: LabelledImages) -> np.ndarray:
    """Return the object mask of each image, (N, H, W) bool; read-only, since the result is cached.

    The data's own masks count if they have any. Else these are the pixels that differ from the background, closed
    (3 x 3), with small spots removed and holes filled. Raises `NotApplicableError` for images without masks and without
    a plain background.
    """
    if images.masks is not None:
        masks = images.masks.numpy().astype(bool, copy=False).view()
    else:
        colour, masks = background(images), np.empty((len(images), *images.pixels.shape[2:]), dtype=bool)
        for part, pixels in in_parts(images.pixels):
            differs = _distance(pixels.permute(0, 2, 3, 1).numpy(), colour) > DIFFERS
            masks[part] = np.stack([_whole(picture) for picture in differs.astype(np.uint8)])
    masks.flags.writeable = False
    return masks


def background(images: LabelledImages) -> np.ndarray:
    """Return the color of the plain background, (C,) uint8: the median of the border pixels of all images.

    Raises `NotApplicableError` if fewer than two thirds of these pixels have about this color.
    """
    border = np.concatenate([_border(part.permute(0, 2, 3, 1).numpy()) for _, part in in_parts(images.pixels)])
    colour = np.asarray(np.median(border, axis=0).round().astype(np.uint8))
    plain = float((_distance(border, colour) <= DIFFERS).mean())
    if plain < MIN_PLAIN:
        raise NotApplicableError(
            f"object masks: the background of {images.name} is not plain: {plain:.0%} of the border pixels have one "
            f"color, expected at least {MIN_PLAIN:.0%}. Add masks to the data: `masks` in an npz file"
        )
    return colour


def _border(pixels: np.ndarray) -> np.ndarray:
    """Return the border pixels, (M, C), of images (N, H, W, C)."""
    sides = (pixels[:, 0], pixels[:, -1], pixels[:, 1:-1, 0], pixels[:, 1:-1, -1])
    return np.concatenate([side.reshape(-1, pixels.shape[-1]) for side in sides])


def _distance(pixels: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Return the largest difference over the channels of pixels (..., C) from a color (C,), in levels."""
    return np.asarray(np.abs(pixels.astype(np.int16) - colour.astype(np.int16)).max(axis=-1))


def _whole(differs: np.ndarray) -> np.ndarray:
    """Return the object mask of one image, (H, W) bool, from its pixels that differ, (H, W) uint8."""
    import cv2

    # With a margin, the image border closes no gap, and the background around the object is connected.
    framed = np.pad(differs, 2)
    closed = cv2.morphologyEx(framed, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    outlines, _ = cv2.findContours(closed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros_like(closed)
    cv2.drawContours(filled, outlines, -1, 1, cv2.FILLED)
    count, parts, statistics, _ = cv2.connectedComponentsWithStats(filled, connectivity=8)
    large = statistics[:count, cv2.CC_STAT_AREA] >= MIN_PIXELS
    large[0] = False  # Part 0 is the background.
    return np.asarray(large[parts][2:-2, 2:-2])
