"""A gallery of failures: small pictures of the images, each with its number, its class, and what it was taken for."""

from __future__ import annotations

import base64
from html import escape
from typing import TYPE_CHECKING

import cv2
import numpy as np

from harness.perturb import IDENTITY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.perturb import Pose
    from harness.run.cases import Tile

_LARGEST = 96
"""Pixels that a tile's picture keeps of its longer side; smaller images are kept as they are."""

# The entries of the page are a table's cells, so that the layout is best said where it applies.
_GRID = "display:grid;grid-template-columns:repeat(auto-fill,minmax(7.5rem,1fr));gap:.8rem;list-style:none;padding:0"
_PICTURE = "width:100%;max-width:9rem;height:auto;image-rendering:pixelated"


def gallery_html(title: str, tiles: Sequence[Tile]) -> str:
    """Return the tiles as a list under a title, in as many columns as the page has room for; "" without tiles."""
    if not tiles:
        return ""
    items = "".join(f"<li>{_item(tile)}</li>" for tile in tiles)
    return f'<section class="gallery"><h4>{escape(title)}</h4><ol style="{_GRID}">{items}</ol></section>'


def gallery_title(pair: tuple[str, str], pose: Pose, tiles: Sequence[Tile], count: int) -> str:
    """Say what the tiles are: which failures, of how many, and in which order."""
    seen = "as they are" if pose == IDENTITY else pose.in_words()
    compared = any(tile.new is not None for tile in tiles)
    order = "those that the baseline gets right before others, " if compared else ""
    shown = f"{len(tiles)} of {count}" if len(tiles) < count else f"all {count}"
    return f"{pair[0]} and {pair[1]} taken for each other, images {seen}: {shown}, {order}the most confident first"


def _item(tile: Tile) -> str:
    answer = tile.answer
    news = {None: "", True: "new", False: "baseline wrong too"}[tile.new]
    alt = f"image {answer.index}: {answer.true} taken for {answer.predicted}, {answer.confidence:.0%} sure"
    alt += {None: "", True: "; the baseline is right", False: "; the baseline is wrong too"}[tile.new]
    about = " · ".join(filter(None, (f"{answer.confidence:.0%} sure", news)))
    said = f"{answer.index}<br>{escape(answer.true)} → {escape(answer.predicted)}<br>{about}"
    return (
        f'<figure style="margin:0"><img alt="{escape(alt)}" style="{_PICTURE}" src="{_data_uri(tile.pixels)}">'
        f"<figcaption>{said}</figcaption></figure>"
    )


def _data_uri(pixels: np.ndarray) -> str:
    """Return an image (H, W, C) uint8 in a `data:` address: small ones exactly, large ones made smaller."""
    rgb = np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels[..., :3]
    quality = 101  # Without loss.
    if max(rgb.shape[:2]) > _LARGEST:
        height, width = (max(1, round(_LARGEST * side / max(rgb.shape[:2]))) for side in rgb.shape[:2])
        rgb, quality = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA), 60
    _, encoded = cv2.imencode(".webp", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_WEBP_QUALITY, quality])
    return f"data:image/webp;base64,{base64.b64encode(encoded.tobytes()).decode()}"
