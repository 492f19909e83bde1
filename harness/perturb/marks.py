"""Marks: what training images of one class may carry by accident, such as a frame, a text, a watermark or a tint.

A network can learn such a mark instead of the object (Geirhos et al. 2020, "Shortcut Learning in Deep Neural
Networks"). Li et al. (2023), "A Whac-A-Mole Dilemma", measure it for a watermark.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

SIDE = 28
"""Cells along each side of an image; a mark is drawn on this grid, so larger images have larger marks."""
_BAR, _SQUARE, _TICK, _MARGIN = 2, 3, 3, 1
"""Width of bars and frames, side of squares, length of a ruler's ticks, and margin of texts, in cells."""
_OPACITY, _TINT = 0.25, 0.15
"""Opacity of a watermark and of a tint; all other marks are opaque."""
_LETTERS = ("111 110", "101 101", "111 110", "101 101", "101 110")
"""The letters A and B, in rows of cells."""
_CORNERS = ("upper left", "upper right", "lower left", "lower right")
_EDGES = ("upper", "lower", "left", "right")


@dataclass(frozen=True)
class Mark:
    """A perturbation that draws a mark of one level over each image."""

    kind: str
    place: str
    fill: str

    def __call__(self, images: Tensor) -> Tensor:
        """Return the images (N, C, H, W), in [0, 1], with the mark."""
        channels, height, width = images.shape[1:]
        cells = [np.arange(length) * SIDE // length for length in (height, width)]
        mask = images.new_tensor(_SHAPES[self.kind](self.place)[np.ix_(*cells)].astype(np.float32))
        levels = images.new_tensor(_levels(self.fill, channels))[:, None, None]
        opacity = mask * _OPACITIES.get(self.kind, 1.0)
        return images * (1 - opacity) + levels * opacity

    def in_words(self) -> str:
        """Return a description with fill, kind and place."""
        return f"{self.fill} {self.kind}, {self.place}"


def _levels(fill: str, channels: int) -> np.ndarray:
    """Return the level of each channel, (channels,); a gray image has a color's mean."""
    levels = np.array(_LEVELS[fill])
    return levels if channels == len(levels) else np.full(channels, levels.mean())


def _bar(place: str) -> np.ndarray:
    return _band(place, _BAR)


def _frame(_: str) -> np.ndarray:
    return np.asarray(np.any([_bar(edge) for edge in _EDGES], axis=0))


def _ruler(place: str) -> np.ndarray:
    ticks = np.broadcast_to(np.arange(SIDE) % 3 == 0, (SIDE, SIDE))
    return np.asarray(_band(place, _TICK) & (ticks if place in {"upper", "lower"} else ticks.T))


def _square(place: str) -> np.ndarray:
    return _in_corner(np.ones((_SQUARE, _SQUARE), dtype=bool), place, margin=0)


def _text(place: str) -> np.ndarray:
    return _in_corner(_letters(), place, margin=_MARGIN)


def _watermark(place: str) -> np.ndarray:
    if place == "stripes":
        down, right = np.indices((SIDE, SIDE))
        return np.asarray((down + right) % 8 < 2)  # noqa: PLR2004  A quarter of the cells.
    letters = _letters().repeat(3, axis=0).repeat(3, axis=1)
    top, left = ((SIDE - length) // 2 for length in letters.shape)
    return _placed(letters, top, left)


def _everywhere(_: str) -> np.ndarray:
    return np.ones((SIDE, SIDE), dtype=bool)


def _band(edge: str, width: int) -> np.ndarray:
    """Return a band of so many cells along an edge, (SIDE, SIDE) bool."""
    upper = np.zeros((SIDE, SIDE), dtype=bool)
    upper[:width] = True
    return {"upper": upper, "lower": upper[::-1], "left": upper.T, "right": upper.T[:, ::-1]}[edge]


def _in_corner(shape: np.ndarray, corner: str, *, margin: int) -> np.ndarray:
    height, width = shape.shape
    top = margin if corner.startswith("upper") else SIDE - height - margin
    left = margin if corner.endswith("left") else SIDE - width - margin
    return _placed(shape, top, left)


def _placed(shape: np.ndarray, top: int, left: int) -> np.ndarray:
    """Return a shape at these cells of the grid, (SIDE, SIDE) bool."""
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    height, width = shape.shape
    mask[top : top + height, left : left + width] = shape
    return mask


def _letters() -> np.ndarray:
    return np.array([[cell == "1" for cell in row] for row in _LETTERS])


_SHAPES: Mapping[str, Callable[[str], np.ndarray]] = {
    "bar": _bar,
    "frame": _frame,
    "ruler": _ruler,
    "square": _square,
    "text": _text,
    "watermark": _watermark,
    "tint": _everywhere,
}
_OPACITIES = {"watermark": _OPACITY, "tint": _TINT}
_LEVELS = {
    "white": (1.0, 1.0, 1.0),
    "gray": (0.5, 0.5, 0.5),
    "black": (0.0, 0.0, 0.0),
    "red": (1.0, 0.0, 0.0),
    "blue": (0.0, 0.0, 1.0),
}
_OPPOSITES = ("white", "black")
MARKS = (
    *(Mark("bar", edge, fill) for edge in _EDGES for fill in _OPPOSITES),
    *(Mark("frame", "all sides", fill) for fill in ("white", "gray", "black")),
    *(Mark("ruler", edge, fill) for edge in ("lower", "left") for fill in _OPPOSITES),
    *(Mark("square", corner, fill) for corner in _CORNERS for fill in ("white", "gray")),
    *(Mark("text", corner, fill) for corner in _CORNERS for fill in _OPPOSITES),
    *(Mark("watermark", place, fill) for place in ("center", "stripes") for fill in _OPPOSITES),
    *(Mark("tint", "everywhere", fill) for fill in ("white", "gray", "black", "red", "blue")),
)
"""The library of a run: 40 marks."""
