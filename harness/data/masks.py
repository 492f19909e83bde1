"""Object masks: where in an image the object is, from the image itself where its background is plain.

Data may bring masks of their own. Else what differs from the background is taken, gaps are closed and holes filled, so
that a dark print on a shirt belongs to the shirt; so does what a bag's handle encloses.
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
"""Grey levels, of 255, by which some channel of a pixel must differ from the background's to be the object's."""
MIN_PLAIN = 2 / 3
"""Share of all border pixels that must show the background for it to be called plain."""
MIN_PIXELS = 4
"""Smaller spots, after closing, are noise."""


@lru_cache(maxsize=8)
def object_masks(images: LabelledImages) -> np.ndarray:
    """Return where the object is in each image, (N, H, W) bool; read-only, since remembered.

    The data's own masks, if there are any. Else pixels that differ from the background, closed (3 x 3), small spots
    removed, holes filled. Raises `NotApplicableError` for images that have neither masks nor a plain background.
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
    """Return the colour of the plain background, (C,) uint8: the median of the pixels at the border of all images.

    Raises `NotApplicableError` when fewer than two thirds of these pixels have this colour, or one close to it.
    """
    border = np.concatenate([_border(part.permute(0, 2, 3, 1).numpy()) for _, part in in_parts(images.pixels)])
    colour = np.asarray(np.median(border, axis=0).round().astype(np.uint8))
    plain = float((_distance(border, colour) <= DIFFERS).mean())
    if plain < MIN_PLAIN:
        raise NotApplicableError(
            f"object masks: the background of {images.name} is not plain: {plain:.0%} of the pixels at the border are "
            f"of one colour, at least {MIN_PLAIN:.0%} must be; give the data masks of their own, `masks` in an npz file"
        )
    return colour


def _border(pixels: np.ndarray) -> np.ndarray:
    """Return the pixels at the border of images (N, H, W, C), (M, C)."""
    sides = (pixels[:, 0], pixels[:, -1], pixels[:, 1:-1, 0], pixels[:, 1:-1, -1])
    return np.concatenate([side.reshape(-1, pixels.shape[-1]) for side in sides])


def _distance(pixels: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Return by how many grey levels pixels (..., C) differ from the colour (C,), in the channel that differs most."""
    return np.asarray(np.abs(pixels.astype(np.int16) - colour.astype(np.int16)).max(axis=-1))


def _whole(differs: np.ndarray) -> np.ndarray:
    """Return the object of one image, (H, W) bool, from the pixels (H, W) uint8 that differ from the background."""
    import cv2

    # A margin, so that the border closes nothing and what lies around the object is connected.
    framed = np.pad(differs, 2)
    closed = cv2.morphologyEx(framed, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    outlines, _ = cv2.findContours(closed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros_like(closed)
    cv2.drawContours(filled, outlines, -1, 1, cv2.FILLED)
    count, parts, statistics, _ = cv2.connectedComponentsWithStats(filled, connectivity=8)
    large = statistics[:count, cv2.CC_STAT_AREA] >= MIN_PIXELS
    large[0] = False  # The background.
    return np.asarray(large[parts][2:-2, 2:-2])
