"""Marks: what training images of one class may carry by accident.

Examples are a frame, a text, a watermark or a tint. A network can learn such a mark instead of the
object (Geirhos et al. 2020, "Shortcut Learning in Deep Neural Networks"). Li et al. (2023), "A
Whac-A-Mole Dilemma", measure it for a watermark.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

SIDE = 28
"""Cells along each side of an image.

A mark is drawn on this grid, so that larger images have larger marks.
"""
SMALLEST_SIDE = 15
"""Fewest pixels along each side of an image on which every mark of the library has a pixel.

A pixel of a smaller image shows one of two or more cells, so that thin marks fall between pixels.
"""
_BAR_WIDTH = 2
"""Width of bars and of the four sides of a frame, in cells."""
_SQUARE_SIDE = 3
_TICK_LENGTH = 3
"""Length of a ruler's ticks, in cells."""
_TICK_SPACING = 3
_TEXT_MARGIN = 1
"""Cells between a text and the sides of the image."""
_WATERMARK_ENLARGEMENT = 3
_STRIPE_PERIOD = 8
_STRIPE_WIDTH = 2
_LETTERS = ("111 110", "101 101", "111 110", "101 101", "101 110")
"""The letters A and B, in rows of cells."""
_CORNERS = ("upper left", "upper right", "lower left", "lower right")
_EDGES = ("upper", "lower", "left", "right")


@dataclass(frozen=True)
class Mark:
    """A perturbation that draws a mark of one level over each image.

    >>> Mark("bar", "upper", "white").in_words()
    'white bar, upper'
    """

    kind: str
    place: str
    fill: str

    def __call__(self, images: Tensor) -> Tensor:
        """Return the images (N, C, H, W), in [0, 1], with the mark."""
        channels, height, width = images.shape[1:]
        cell_rows = np.arange(height) * SIDE // height
        cell_columns = np.arange(width) * SIDE // width

        shape_on_grid = _SHAPES[self.kind](self.place)
        shape = shape_on_grid[np.ix_(cell_rows, cell_columns)]
        mask = images.new_tensor(shape.astype(np.float32))
        opacity = mask * _OPACITIES.get(self.kind, 1.0)

        levels = images.new_tensor(_levels(self.fill, channels))[:, None, None]
        return images * (1 - opacity) + levels * opacity

    def in_words(self) -> str:
        """Return a description with fill, kind and place."""
        return f"{self.fill} {self.kind}, {self.place}"


def _levels(fill: str, channels: int) -> np.ndarray:
    """Return the level of each channel, (channels,); a gray image has a color's mean."""
    levels = np.array(_LEVELS[fill])
    if channels == len(levels):
        return levels
    return np.full(channels, levels.mean())


def _bar(place: str) -> np.ndarray:
    return _band(place, _BAR_WIDTH)


def _frame(_: str) -> np.ndarray:
    bars = [_bar(edge) for edge in _EDGES]
    return np.asarray(np.any(bars, axis=0))


def _ruler(place: str) -> np.ndarray:
    ticks = np.broadcast_to(np.arange(SIDE) % _TICK_SPACING == 0, (SIDE, SIDE))
    if place in {"left", "right"}:
        ticks = ticks.T
    return np.asarray(_band(place, _TICK_LENGTH) & ticks)


def _square(place: str) -> np.ndarray:
    square = np.ones((_SQUARE_SIDE, _SQUARE_SIDE), dtype=bool)
    return _in_corner(square, place, margin=0)


def _text(place: str) -> np.ndarray:
    return _in_corner(_letters(), place, margin=_TEXT_MARGIN)


def _watermark(place: str) -> np.ndarray:
    if place == "stripes":
        down, right = np.indices((SIDE, SIDE))
        return np.asarray((down + right) % _STRIPE_PERIOD < _STRIPE_WIDTH)

    letters = _letters()
    letters = letters.repeat(_WATERMARK_ENLARGEMENT, axis=0)
    letters = letters.repeat(_WATERMARK_ENLARGEMENT, axis=1)
    height, width = letters.shape
    return _placed(letters, top=(SIDE - height) // 2, left=(SIDE - width) // 2)


def _everywhere(_: str) -> np.ndarray:
    return np.ones((SIDE, SIDE), dtype=bool)


def _band(edge: str, width: int) -> np.ndarray:
    """Return a band of `width` cells along an edge, (SIDE, SIDE) bool."""
    upper = np.zeros((SIDE, SIDE), dtype=bool)
    upper[:width] = True
    bands = {"upper": upper, "lower": upper[::-1], "left": upper.T, "right": upper.T[:, ::-1]}
    return bands[edge]


def _in_corner(shape: np.ndarray, corner: str, *, margin: int) -> np.ndarray:
    """Return a shape in a corner of the grid, `margin` cells from its sides, (SIDE, SIDE) bool."""
    height, width = shape.shape
    top = margin
    if corner.startswith("lower"):
        top = SIDE - height - margin
    left = margin
    if corner.endswith("right"):
        left = SIDE - width - margin
    return _placed(shape, top, left)


def _placed(shape: np.ndarray, top: int, left: int) -> np.ndarray:
    """Return a shape at these cells of the grid, (SIDE, SIDE) bool."""
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    height, width = shape.shape
    mask[top : top + height, left : left + width] = shape
    return mask


def _letters() -> np.ndarray:
    """Return the cells of the letters, (5, 7) bool."""
    rows = [list(row) for row in _LETTERS]
    return np.asarray(np.array(rows) == "1")


_SHAPES: Mapping[str, Callable[[str], np.ndarray]] = {
    "bar": _bar,
    "frame": _frame,
    "ruler": _ruler,
    "square": _square,
    "text": _text,
    "watermark": _watermark,
    "tint": _everywhere,
}
"""Functions that draw a kind of mark at a place, on the grid of cells."""
_OPACITIES = {"watermark": 0.25, "tint": 0.15}
"""Opacities of the translucent marks; all others are opaque."""
_LEVELS = {
    "white": (1.0, 1.0, 1.0),
    "gray": (0.5, 0.5, 0.5),
    "black": (0.0, 0.0, 0.0),
    "red": (1.0, 0.0, 0.0),
    "blue": (0.0, 0.0, 1.0),
}


def _marks(kind: str, places: tuple[str, ...], fills: tuple[str, ...]) -> list[Mark]:
    return [Mark(kind, place, fill) for place, fill in product(places, fills)]


MARKS = (
    *_marks("bar", _EDGES, ("white", "black")),
    *_marks("frame", ("all sides",), ("white", "gray", "black")),
    *_marks("ruler", ("lower", "left"), ("white", "black")),
    *_marks("square", _CORNERS, ("white", "gray")),
    *_marks("text", _CORNERS, ("white", "black")),
    *_marks("watermark", ("center", "stripes"), ("white", "black")),
    *_marks("tint", ("everywhere",), ("white", "gray", "black", "red", "blue")),
)
"""The library of a run: 40 marks."""
