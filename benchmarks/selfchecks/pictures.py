"""Images of the benchmark: digits of scikit-learn, and emoji that this module draws."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

SIDE = 24
"""Height and width of a drawn picture, in pixels."""
_LARGE = 4 * SIDE
"""Side at which shapes are drawn; the reduction makes their edges smooth."""
Box = tuple[float, float, float, float]
Color = tuple[int, int, int]
Shape = Callable[[ImageDraw.ImageDraw, Box, Color], None]


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Return the 1,797 digits of scikit-learn in random order.

    Images (N, 8, 8, 1) uint8, and labels (N,).
    """
    from sklearn.datasets import load_digits

    found = load_digits()
    order = np.random.default_rng(0).permutation(len(found.target))
    images = np.round(found.images * (255 / 16)).astype(np.uint8)
    return images[order, :, :, None], found.target[order].astype(np.int64)


def drawn(count: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return emoji in random colors, places and sizes on black.

    Images (N, 24, 24, 3) uint8, and labels (N,).
    """
    rng = np.random.default_rng(seed)
    names = list(SHAPES)
    labels = np.arange(count) % len(names)
    images = np.stack([_picture(SHAPES[names[label]], rng) for label in labels])
    return images, labels


def _picture(shape: Shape, rng: np.random.Generator) -> np.ndarray:
    side = _LARGE * rng.uniform(0.55, 0.8)
    left, top = rng.uniform(0, _LARGE - side, 2)
    red, green, blue = rng.integers(120, 256, 3).tolist()
    large = Image.new("RGB", (_LARGE, _LARGE))
    shape(ImageDraw.Draw(large), (left, top, left + side, top + side), (red, green, blue))

    turned = large.rotate(rng.uniform(-12, 12), resample=Image.Resampling.BILINEAR)
    small = np.asarray(turned.resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float32)
    noise = rng.normal(0, 20, small.shape) * (small.max(axis=2, keepdims=True) > 0)
    return np.clip(small + noise, 0, 255).astype(np.uint8)


def _inside(box: Box, left: float, top: float, right: float, bottom: float) -> Box:
    """Return a part of a box by its edges as shares of the box."""
    width, height = box[2] - box[0], box[3] - box[1]
    return (
        box[0] + left * width,
        box[1] + top * height,
        box[0] + right * width,
        box[1] + bottom * height,
    )


def _face(draw: ImageDraw.ImageDraw, box: Box, color: Color) -> None:
    draw.ellipse(box, fill=color)
    for left in (0.25, 0.6):
        draw.ellipse(_inside(box, left, 0.25, left + 0.15, 0.42), fill=(20, 20, 20))


def _smile(draw: ImageDraw.ImageDraw, box: Box, color: Color) -> None:
    _face(draw, box, color)
    draw.chord(_inside(box, 0.2, 0.35, 0.8, 0.85), 10, 170, fill=(20, 20, 20))


def _frown(draw: ImageDraw.ImageDraw, box: Box, color: Color) -> None:
    _face(draw, box, color)
    draw.chord(_inside(box, 0.2, 0.58, 0.8, 1.05), 190, 350, fill=(20, 20, 20))


def _surprise(draw: ImageDraw.ImageDraw, box: Box, color: Color) -> None:
    _face(draw, box, color)
    draw.ellipse(_inside(box, 0.36, 0.55, 0.64, 0.88), fill=(20, 20, 20))


def _flat(draw: ImageDraw.ImageDraw, box: Box, color: Color) -> None:
    _face(draw, box, color)
    draw.rectangle(_inside(box, 0.22, 0.62, 0.78, 0.74), fill=(20, 20, 20))


def _heart(draw: ImageDraw.ImageDraw, box: Box, color: Color) -> None:
    draw.pieslice(_inside(box, 0.0, 0.0, 0.52, 0.6), 150, 360, fill=color)
    draw.pieslice(_inside(box, 0.48, 0.0, 1.0, 0.6), 180, 390, fill=color)
    left, top, right, bottom = _inside(box, 0.03, 0.32, 0.97, 1.0)
    draw.polygon([(left, top), (right, top), ((left + right) / 2, bottom)], fill=color)


def _star(draw: ImageDraw.ImageDraw, box: Box, color: Color) -> None:
    middle, radius = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2), (box[2] - box[0]) / 2
    corners = []
    for number in range(10):
        reach = radius * (1.0 if number % 2 == 0 else 0.42)
        angle = math.pi * (number / 5 - 0.5)
        corners.append((middle[0] + reach * math.cos(angle), middle[1] + reach * math.sin(angle)))
    draw.polygon(corners, fill=color)


def _moon(draw: ImageDraw.ImageDraw, box: Box, color: Color) -> None:
    draw.ellipse(box, fill=color)
    draw.ellipse(_inside(box, 0.3, -0.05, 1.15, 0.85), fill=(0, 0, 0))


def _gem(draw: ImageDraw.ImageDraw, box: Box, color: Color) -> None:
    left, top, right, bottom = box
    middle = (left + right) / 2, (top + bottom) / 2
    draw.polygon(
        [(middle[0], top), (right, middle[1]), (middle[0], bottom), (left, middle[1])], fill=color
    )


SHAPES: dict[str, Shape] = {
    "smile": _smile,
    "frown": _frown,
    "surprise": _surprise,
    "flat": _flat,
    "heart": _heart,
    "star": _star,
    "moon": _moon,
    "gem": _gem,
}
"""Functions that draw a class into a box, by name."""
