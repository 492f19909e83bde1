"""Encoded pictures: the file behind each image, for predictors that decode pictures themselves."""

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
    """The bytes of pictures, found by the pixels that the reference pipeline makes from them.

    An image of the data has the bytes of its file. Any other image, such as a rotated one, becomes
    a PNG file of its pixels, and so does each image of data without files. Without images, all
    become PNG files.
    """

    def __init__(self, images: LabelledImages | None) -> None:
        self._images = images
        self._origin = None
        if images and images.origin and images.origin.encoded:
            self._origin = images.origin

    def of(self, pixels: np.ndarray) -> list[bytes]:
        """Return a file for each of the images, (N, C, H, W) float32 in [0, 1]."""
        files = []
        for levels in np.rint(pixels * 255).clip(0, 255).astype(np.uint8):
            file = self._file_of(levels)
            files.append(as_png(levels) if file is None else file)
        return files

    def _file_of(self, levels: np.ndarray) -> bytes | None:
        """Return the file of the image with these levels, (C, H, W) uint8; None without one."""
        number = self._numbers.get(_name(levels))
        if number is None or self._origin is None:
            return None
        picture = self._origin.picture(number)
        return picture if isinstance(picture, bytes) else None

    @cached_property
    def _numbers(self) -> dict[bytes, int]:
        """Return the position of each image in the full split by a hash of its pixels.

        Of equal images, the first counts.
        """
        numbers: dict[bytes, int] = {}
        if self._images is None or self._origin is None:
            return numbers
        positions = self._images.positions.tolist()
        for part, pixels in in_parts(self._images.pixels):
            for position, levels in zip(positions[part], pixels.numpy(), strict=True):
                numbers.setdefault(_name(levels), position)
        return numbers


def _name(levels: np.ndarray) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(levels).data).digest()
