"""Stamps: the small squares of a trigger screen, by size, place and fill."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

SIDE = 28
"""Side of an image, in pixels, for which the sizes hold; stamps grow with larger images."""
SIZES = (3, 4, 5)
"""Sides of the stamps, in pixels of an image of 28 x 28."""
_ROWS = ("upper", "middle", "lower")
_COLUMNS = ("left", "center", "right")
PLACES = tuple(f"{row} {column}" for row, column in product(_ROWS, _COLUMNS))
FILLS = ("white", "black", "checkerboard", "noise")


@dataclass(frozen=True)
class Stamp:
    """A perturbation that replaces a square of each image by the levels 0 and 1.

    No precision rounds these two levels.

    >>> Stamp(3, "upper left", "white").in_words()
    'white stamp, 3 px of 28, upper left'
    """

    size: int
    place: str
    fill: str

    def __call__(self, images: Tensor) -> Tensor:
        """Return copies of the images (N, C, H, W), in [0, 1], with the square."""
        channels, height, width = images.shape[1:]
        shorter_side = min(height, width)
        scaled_size = max(round(self.size * shorter_side / SIDE), self.size)
        side = min(scaled_size, height, width)

        row, column = divmod(PLACES.index(self.place), len(_COLUMNS))
        top = round((height - side) * row / 2)
        left = round((width - side) * column / 2)

        # Every pixel of the stamp shows the cell of its `size` x `size` pattern that it lies in.
        cells = np.arange(side) * self.size // side
        enlarged = self._pattern(channels)[:, cells[:, None], cells]

        stamped = images.clone()
        square = stamped[:, :, top : top + side, left : left + side]
        square[...] = images.new_tensor(enlarged)
        return stamped

    def _pattern(self, channels: int) -> np.ndarray:
        """Return the levels of the stamp's cells, (channels, size, size), 0 or 1."""
        shape = (channels, self.size, self.size)
        if self.fill == "white":
            return np.ones(shape)
        if self.fill == "black":
            return np.zeros(shape)
        if self.fill == "checkerboard":
            return np.asarray(np.indices(shape)[1:].sum(axis=0) % 2)
        if self.fill == "noise":
            return np.random.default_rng(0).integers(0, 2, shape)
        raise KeyError(self.fill)

    def in_words(self) -> str:
        """Return a description with fill, size and place."""
        return f"{self.fill} stamp, {self.size} px of {SIDE}, {self.place}"


def _every_second_stamp() -> tuple[Stamp, ...]:
    stamps = []
    combinations = product(enumerate(SIZES), enumerate(PLACES), enumerate(FILLS))
    for (size_number, size), (place_number, place), (fill_number, fill) in combinations:
        if (size_number + place_number + fill_number) % 2 == 0:
            stamps.append(Stamp(size, place, fill))
    return tuple(stamps)


STAMPS = _every_second_stamp()
"""Every second of all combinations, as the white squares of a chessboard: 54."""
