"""Text on pictures, in Matplotlib's own font, which has the letters of most scripts."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PIL.ImageFont import FreeTypeFont

Align = Literal["left", "right", "center"]
Color = tuple[int, int, int]

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
    color: Color = (20, 20, 20),
) -> None:
    """Draw a line of text into the box of this width whose upper left corner is (x, y), in pixels.

    The canvas is (H, W, 3) uint8, white in the box, and changed in place. Text that is too long ends in an ellipsis.
    """
    letters = _letters(text, width, bold, color)
    x += {"left": 0, "right": width - letters.shape[1], "center": (width - letters.shape[1]) // 2}[align]
    box = canvas[y : y + TEXT_HEIGHT, x : x + letters.shape[1]]
    np.minimum(box, letters[: box.shape[0]], out=box)


def wrapped(text: str, width: int, *, bold: bool = False) -> list[str]:
    """Return a text in lines at most as wide as this, in pixels, broken between words, and within longer words."""
    font, lines = _font(bold=bold), []
    for part in text.split("\n"):
        lines.append("")
        for word in (piece for whole in part.split() for piece in _pieces(whole, width, font)):
            longer = f"{lines[-1]} {word}".lstrip()
            if lines[-1] and font.getlength(longer) > width:
                lines.append(word)
            else:
                lines[-1] = longer
    return lines


def _pieces(word: str, width: int, font: FreeTypeFont) -> Iterator[str]:
    """Return a word in pieces at most as wide as this, in pixels, of at least one letter."""
    while font.getlength(word) > width and len(word) > 1:
        end = next(end for end in range(len(word) - 1, 0, -1) if end == 1 or font.getlength(word[:end]) <= width)
        yield word[:end]
        word = word[end:]
    yield word


@lru_cache(maxsize=1024)
def _letters(text: str, width: int, bold: bool, color: Color) -> np.ndarray:  # noqa: FBT001  A key of the cache.
    """Return the text on white, (TEXT_HEIGHT, at most width, 3) uint8."""
    from PIL import Image, ImageDraw

    font = _font(bold=bold)
    if font.getlength(text) > width:
        while text and font.getlength(f"{text}…") > width:
            text = text[:-1]
        text = f"{text}…"
    mask = Image.new("L", (max(1, min(width, round(font.getlength(text)) + 1)), TEXT_HEIGHT))
    ImageDraw.Draw(mask).text((0, _BASELINE), text, fill=255, font=font, anchor="ls")
    share = np.asarray(mask, dtype=np.float32)[:, :, None] / 255
    return np.asarray((255 * (1 - share) + np.array(color) * share).round().astype(np.uint8))


@lru_cache(maxsize=2)
def _font(*, bold: bool) -> FreeTypeFont:
    import matplotlib as mpl
    from PIL import ImageFont

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(mpl.get_data_path()) / "fonts/ttf" / name), _SIZE)
