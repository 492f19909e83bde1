"""The 3-panel picture of one image: original | as the baseline sees it | as the candidate sees it.

Composed from arrays with OpenCV, because a Matplotlib figure each would take a hundred times as long.
"""

from __future__ import annotations

import base64
from html import escape
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.evidence import Case

_SIZE, _GAP, _CAPTION = 168, 8, 44
_MAX_BYTES = 20_000


def panel(case: Case) -> np.ndarray:
    """Return the picture, (height, width, 3) uint8 RGB."""
    return strip(
        [
            (case.original, f"image {case.index}", f"true: {case.true}"),
            (case.seen, "baseline", _answer(case.baseline)),
            (case.seen, "candidate", _answer(case.candidate)),
        ]
    )


def strip(tiles: Sequence[tuple[np.ndarray, str, str]]) -> np.ndarray:
    """Return images (H, W, C) uint8 side by side, each over a title and a caption, (height, width, 3) uint8 RGB."""
    gap = np.full((_SIZE + _CAPTION, _GAP, 3), 255, dtype=np.uint8)
    pictures = [part for image, title, caption in tiles for part in (gap, _tile(image, title, caption))]
    return np.hstack(pictures[1:])


def as_png(picture: np.ndarray) -> bytes:
    """Return an RGB picture as the content of a PNG file."""
    _, encoded = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    return bytes(encoded.tobytes())


def as_html(case: Case) -> str:
    """Return the picture as an `img` element that carries its data."""
    picture = cv2.cvtColor(panel(case), cv2.COLOR_RGB2BGR)
    for quality in (80, 60, 40, 20, 10, 5, 1):
        _, encoded = cv2.imencode(".webp", picture, [cv2.IMWRITE_WEBP_QUALITY, quality])
        if len(encoded) <= _MAX_BYTES:
            break
    data = base64.b64encode(encoded.tobytes()).decode()
    alt = (
        f"image {case.index}, true class {case.true}; baseline: {_answer(case.baseline)}; "
        f"candidate: {_answer(case.candidate)}"
    )
    return f'<img alt="{escape(alt)}" src="data:image/webp;base64,{data}">'


def _answer(answer: tuple[str, float] | None) -> str:
    return "none" if answer is None else f"{answer[0]} {answer[1]:.0%}"


def _tile(image: np.ndarray, title: str, caption: str) -> np.ndarray:
    rgb = np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image[..., :3]
    tile = np.full((_SIZE + _CAPTION, _SIZE, 3), 255, dtype=np.uint8)
    tile[:_SIZE] = cv2.resize(rgb, (_SIZE, _SIZE), interpolation=cv2.INTER_NEAREST)
    for line, words in enumerate((title, caption)):
        # OpenCV's built-in fonts know ASCII only.
        text = words.encode("ascii", "replace").decode()
        cv2.putText(
            tile, text, (2, _SIZE + 16 + 20 * line), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (20, 20, 20), 1, cv2.LINE_AA
        )
    return tile
