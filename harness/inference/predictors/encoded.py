"""The file behind each image, for predictors that take the bytes of pictures and decode them by themselves."""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from harness.data.image_files import as_png
from harness.data.rows import in_parts

if TYPE_CHECKING:
    from harness.data import LabelledImages


class EncodedPictures:
    """The bytes of pictures by the pixels that the reference pipeline makes of them.

    An image of the data has the bytes of its file. Any other image, such as a rotated one, is a PNG file of its pixels,
    and so is each image of data without files.
    """

    def __init__(self, images: LabelledImages) -> None:
        self._images = images

    def of(self, pixels: np.ndarray) -> list[bytes]:
        """Return a file for each of the images, (N, C, H, W) float32 in [0, 1]."""
        levels = np.rint(pixels * 255).clip(0, 255).astype(np.uint8)
        return [self._file(image) for image in levels]

    def _file(self, levels: np.ndarray) -> bytes:
        origin, number = self._images.origin, self._numbers.get(_name(levels))
        if origin is None or number is None:
            return as_png(levels)
        picture = origin.picture(number)
        return picture if isinstance(picture, bytes) else as_png(levels)

    @cached_property
    def _numbers(self) -> dict[bytes, int]:
        """Return the position in the full split of each image, by a hash of its pixels; the first of equal ones."""
        if self._images.origin is None or not self._images.origin.encoded:
            return {}
        found: dict[bytes, int] = {}
        positions = self._images.positions.tolist()
        for part, pixels in in_parts(self._images.pixels):
            for position, levels in zip(positions[part], pixels.numpy(), strict=True):
                found.setdefault(_name(levels), position)
        return found


def _name(levels: np.ndarray) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(levels).data).digest()
