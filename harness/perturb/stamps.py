"""Stamps: the small squares of a trigger screen, by size, place and fill."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

SIDE, SIZES = 28, (3, 4, 5)
"""Side of an image, in pixels, and those of its stamps; larger images have larger ones in proportion."""
PLACES = tuple(
    f"{row} {column}"
    for row in ("upper", "middle", "lower")
    for column in ("left", "center", "right")
)
FILLS = ("white", "black", "checkerboard", "noise")


@dataclass(frozen=True)
class Stamp:
    """A perturbation that replaces a square of each image by levels that no precision rounds, 0 and 1."""

    size: int
    place: str
    fill: str

    def __call__(self, images: Tensor) -> Tensor:
        """Return copies of the images (N, C, H, W), in [0, 1], with the square."""
        channels, height, width = images.shape[1:]
        side = min(max(round(self.size * min(height, width) / SIDE), self.size), height, width)
        row, column = divmod(PLACES.index(self.place), 3)
        top, left = round((height - side) * row / 2), round((width - side) * column / 2)
        shape, cells = (channels, self.size, self.size), np.arange(side) * self.size // side
        noise, board = (
            np.random.default_rng(0).integers(0, 2, shape),
            np.indices(shape)[1:].sum(axis=0) % 2,
        )
        pattern = {
            "white": np.ones(shape),
            "black": np.zeros(shape),
            "checkerboard": board,
            "noise": noise,
        }[self.fill]
        images = images.clone()
        images[:, :, top : top + side, left : left + side] = images.new_tensor(
            pattern[:, cells[:, None], cells]
        )
        return images

    def in_words(self) -> str:
        """Return a description with fill, size and place."""
        return f"{self.fill} stamp, {self.size} px of {SIDE}, {self.place}"


STAMPS = tuple(
    Stamp(size, place, fill)
    for i, size in enumerate(SIZES)
    for j, place in enumerate(PLACES)
    for k, fill in enumerate(FILLS)
    if (i + j + k) % 2 == 0
)
"""Every second of all combinations, as the white squares of a chessboard: 54."""
