"""Drawn images of two domains: letters in many fonts, and shapes with noise."""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIDE = 14
"""Pixels of a side."""
LETTERS = "aceghnosuz"
"""The classes of the letters."""
FONTS = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif", "DejaVuSansMono", "STIXGeneral", "cmtt10")
"""Fonts of matplotlib that letters are drawn in."""
SHAPES = (
    "triangle",
    "square",
    "pentagon",
    "hexagon",
    "circle",
    "star-4",
    "star-5",
    "star-6",
    "bar",
    "cross",
)
"""The classes of the shapes."""
LETTER_NOISE = 12.0
"""Standard deviation of the noise on letters, in gray levels."""
SHAPE_NOISE = 22.0
"""Standard deviation of the noise on shapes, in gray levels."""
_SCALE = 4
"""Pixels are drawn with this many times the resolution along each axis."""


def letters(count: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return letters, (count, 14, 14) uint8, and their labels, (count,) int64.

    Font, size, slant, rotation, and contrast vary at random.
    """
    from matplotlib import get_data_path

    rng = np.random.default_rng(seed)
    side = SIDE * _SCALE
    fonts = [
        ImageFont.truetype(f"{get_data_path()}/fonts/ttf/{name}.ttf", size)
        for name in FONTS
        for size in (44, 50, 56)
    ]
    labels = rng.integers(len(LETTERS), size=count)
    pixels = np.empty((count, SIDE, SIDE), np.uint8)
    for at, label in enumerate(labels):
        canvas = Image.new("L", (side, side))
        font = fonts[rng.integers(len(fonts))]
        center = (side / 2, side / 2)
        ImageDraw.Draw(canvas).text(center, LETTERS[label], 255, font, anchor="mm")
        corners = np.array([0, 0, 0, side, side, side, side, 0]) + rng.normal(scale=5, size=8)
        warped = canvas.transform(canvas.size, Image.Transform.QUAD, corners.tolist())
        pixels[at] = _photographed(np.asarray(warped), LETTER_NOISE, rng)
    return pixels, labels.astype(np.int64)


def shapes(count: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return shapes, (count, 14, 14) uint8, and their labels, (count,) int64.

    Place, size, rotation, and contrast vary at random.
    """
    rng = np.random.default_rng(seed)
    side = SIDE * _SCALE
    labels = rng.integers(len(SHAPES), size=count)
    pixels = np.empty((count, SIDE, SIDE), np.uint8)
    for at, label in enumerate(labels):
        outline = _outline(SHAPES[label])
        angle = rng.uniform(-np.pi / 12, np.pi / 12)
        rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        radius = side * rng.uniform(0.34, 0.46)
        center = side / 2 + rng.uniform(-3, 3, size=2)
        points = (outline * radius) @ rotation.T + center
        canvas = np.zeros((side, side), np.uint8)
        cv2.fillPoly(canvas, [points.round().astype(np.int32)], 255)
        pixels[at] = _photographed(canvas, SHAPE_NOISE, rng)
    return pixels, labels.astype(np.int64)


def _outline(shape: str) -> np.ndarray:
    """Return the corners of a shape in the unit circle, (corners, 2)."""
    if shape == "bar":
        return np.array([[-1, -0.35], [1, -0.35], [1, 0.35], [-1, 0.35]])
    if shape == "cross":
        long, short = 1.0, 0.33
        quarter_turn = np.array([[0, -1], [1, 0]])
        corners = [np.array([[short, -long], [short, -short], [long, -short]])]
        for _ in range(3):
            corners.append(corners[-1] @ quarter_turn.T)
        return np.concatenate(corners)
    name, _, points = shape.partition("-")
    if name == "star":
        radii = np.tile([1.0, 0.5], int(points))
    else:
        corners_of = {"triangle": 3, "square": 4, "pentagon": 5, "hexagon": 6, "circle": 24}
        radii = np.ones(corners_of[shape])
    angles = np.arange(len(radii)) * 2 * np.pi / len(radii) - np.pi / 2
    return radii[:, None] * np.column_stack([np.cos(angles), np.sin(angles)])


def _photographed(ink: np.ndarray, noise: float, rng: np.random.Generator) -> np.ndarray:
    """Return drawn ink, (56, 56) uint8, at 14 x 14 with a random contrast and noise."""
    small = cv2.resize(ink, (SIDE, SIDE), interpolation=cv2.INTER_AREA) / 255
    paper = rng.uniform(10, 80)
    contrast = rng.uniform(90, 170)
    gray = paper + contrast * small + rng.normal(scale=noise, size=small.shape)
    return gray.round().clip(0, 255).astype(np.uint8)
