"""Encoded pictures: the file behind each image, for predictors that decode pictures themselves."""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from harness.data.image_files import as_png
from harness.data.rows import in_parts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.data import LabelledImages

_LENGTH = 4
"""Bytes of the length before each file, in a tensor of files sent as bytes."""


class EncodedPictures:
    """The bytes of pictures, found by the pixels that the reference pipeline makes from them.

    An image of the data has the bytes of its file. Any other image, such as a rotated one, becomes a PNG file of its
    pixels, and so does each image of data without files. Without images, all become PNG files.
    """

    def __init__(self, images: LabelledImages | None) -> None:
        self._images = images

    def of(self, pixels: np.ndarray) -> list[bytes]:
        """Return a file for each of the images, (N, C, H, W) float32 in [0, 1]."""
        levels = np.rint(pixels * 255).clip(0, 255).astype(np.uint8)
        return [self._file(image) for image in levels]

    def _file(self, levels: np.ndarray) -> bytes:
        number = self._numbers.get(_name(levels))
        if number is None or self._images is None or self._images.origin is None:
            return as_png(levels)
        picture = self._images.origin.picture(number)
        return picture if isinstance(picture, bytes) else as_png(levels)

    @cached_property
    def _numbers(self) -> dict[bytes, int]:
        """Return the position of each image in the full split by a hash of its pixels; the first of equal ones."""
        if self._images is None or self._images.origin is None or not self._images.origin.encoded:
            return {}
        found: dict[bytes, int] = {}
        positions = self._images.positions.tolist()
        for part, pixels in in_parts(self._images.pixels):
            for position, levels in zip(positions[part], pixels.numpy(), strict=True):
                found.setdefault(_name(levels), position)
        return found


def _name(levels: np.ndarray) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(levels).data).digest()


def tensor_of_files(files: Sequence[bytes]) -> np.ndarray:
    """Return encoded pictures as a tensor, (N, 1) objects, since NumPy's byte strings would lose final zeros."""
    values = np.empty((len(files), 1), dtype=object)
    values[:, 0] = files
    return values


def content_of(values: np.ndarray) -> bytes:
    """Return a tensor as bytes; the length of each file comes before it, 4 bytes, little-endian."""
    if values.dtype != object:
        return values.tobytes()
    return b"".join(len(file).to_bytes(_LENGTH, "little") + file for file in values.ravel().tolist())


def key_of(image: np.ndarray) -> bytes:
    """Return a hash of one image in a tensor, or of its file."""
    return hashlib.sha256(image.item() if image.dtype == object else image.tobytes()).digest()
