"""Text on pictures, in the font that comes with Matplotlib, so that class names of most scripts can be read."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

Align = Literal["left", "right", "centre"]
Colour = tuple[int, int, int]

TEXT_HEIGHT = 24
"""Rows that a line of text takes."""
_SIZE, _BASELINE = 17, 18


def write(
    canvas: np.ndarray,
    text: str,
    *,
    x: int,
    y: int,
    width: int,
    align: Align = "left",
    bold: bool = False,
    colour: Colour = (20, 20, 20),
) -> None:
    """Draw a line of text into the box of this width whose upper left corner is (x, y), in pixels.

    The canvas is (H, W, 3) uint8 and changed in place. Text that is too long ends in an ellipsis.
    """
    ink = _ink(text, width, bold)
    x += {"left": 0, "right": width - ink.shape[1], "centre": (width - ink.shape[1]) // 2}[align]
    box = canvas[y : y + TEXT_HEIGHT, x : x + ink.shape[1]]
    share = ink[: box.shape[0], :, None]
    box[:] = (box * (1 - share) + np.array(colour) * share).round()


@lru_cache(maxsize=1024)
def _ink(text: str, width: int, bold: bool) -> np.ndarray:  # noqa: FBT001  A key of the cache.
    """Return how much of each pixel the text covers, (TEXT_HEIGHT, at most width) in [0, 1]."""
    from PIL import Image, ImageDraw

    font = _font(bold=bold)
    if font.getlength(text) > width:
        while text and font.getlength(f"{text}…") > width:
            text = text[:-1]
        text = f"{text}…"
    mask = Image.new("L", (max(1, min(width, round(font.getlength(text)) + 1)), TEXT_HEIGHT))
    ImageDraw.Draw(mask).text((0, _BASELINE), text, fill=255, font=font, anchor="ls")
    return np.asarray(mask, dtype=np.float32) / 255


@lru_cache(maxsize=2)
def _font(*, bold: bool) -> FreeTypeFont:
    import matplotlib as mpl
    from PIL import ImageFont

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(mpl.get_data_path()) / "fonts/ttf" / name), _SIZE)
