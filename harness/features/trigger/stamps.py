"""Stamps: the small squares of a trigger screen, by size, place and fill."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

SIDE = 28
"""Side of the images, in pixels, that sizes are for; larger images have larger stamps in proportion."""
SIZES = (3, 4, 5)
PLACES = tuple(f"{row} {column}" for row in ("upper", "middle", "lower") for column in ("left", "center", "right"))
FILLS = ("white", "black", "checkerboard", "noise")


@dataclass(frozen=True)
class Stamp:
    """A perturbation that replaces a square of each image.

    The square touches the border, or lies in the middle. Noise is black or white in each cell and channel, at random by
    a fixed seed. Each value is 0 or 1, so no precision rounds it.
    """

    size: int
    place: str
    fill: str

    def __call__(self, images: Tensor) -> Tensor:
        """Return copies of the images (N, C, H, W), in [0, 1], with the square."""
        channels, height, width = images.shape[1:]
        side, (row, column) = self.side(height, width), divmod(PLACES.index(self.place), 3)
        top, left = round((height - side) * row / 2), round((width - side) * column / 2)
        cells = np.arange(side) * self.size // side
        images = images.clone()
        pattern = self._pattern(channels)[:, cells[:, None], cells]
        images[:, :, top : top + side, left : left + side] = images.new_tensor(pattern)
        return images

    def side(self, height: int, width: int) -> int:
        """Return the side of the square in images of this size, in pixels."""
        least = min(height, width)
        return min(max(round(self.size * least / SIDE), self.size), least)

    def _pattern(self, channels: int) -> np.ndarray:
        shape = (channels, self.size, self.size)
        if self.fill == "noise":
            return np.random.default_rng(0).integers(0, 2, shape)
        if self.fill == "checkerboard":
            return np.asarray(np.indices(shape)[1:].sum(axis=0) % 2)
        return np.full(shape, self.fill == "white")

    def in_words(self) -> str:
        """Return a description with fill, size and place."""
        return f"{self.fill} stamp, {self.size} px of {SIDE}, {self.place}"


STAMPS = tuple(
    Stamp(SIZES[size], PLACES[place], FILLS[fill])
    for size, place, fill in product(range(len(SIZES)), range(len(PLACES)), range(len(FILLS)))
    if (size + place + fill) % 2 == 0
)
"""Every second of all combinations, as the white fields of a chessboard: 54."""
