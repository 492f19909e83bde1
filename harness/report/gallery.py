"""A gallery of failures: small pictures of the images, each with its number, its class, and what it was taken for."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import cv2
import numpy as np

from harness.perturb import IDENTITY
from harness.report.page import render

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markupsafe import Markup

    from harness.perturb import Pose
    from harness.run.cases import Tile

_LARGEST = 96
"""Pixels that a tile's picture keeps of its longer side; smaller images are kept as they are."""


def gallery_html(title: str, tiles: Sequence[Tile]) -> str:
    """Return the tiles as a list under a title, in as many columns as the page has room for; "" without tiles."""
    return str(render("gallery", title=title, tiles=[_shown(tile) for tile in tiles])) if tiles else ""


def thumbnails(title: str, shown: Sequence[tuple[np.ndarray, str, str, str]]) -> Markup:
    """Return images (H, W, C) uint8, each with its number, what it is and what is said of it, as a list."""
    tiles = [
        {
            "index": index,
            "true": true,
            "predicted": said,
            "about": "",
            "alt": f"image {index}: {true}, {said}",
            "source": _data_uri(pixels),
        }
        for pixels, index, true, said in shown
    ]
    return render("gallery", title=title, tiles=tiles)


def gallery_title(pair: tuple[str, str], pose: Pose, tiles: Sequence[Tile], count: int) -> str:
    """Say what the tiles are: which failures, of how many, and in which order."""
    seen = "as they are" if pose == IDENTITY else pose.in_words()
    compared = any(tile.new is not None for tile in tiles)
    order = "those that the baseline gets right before others, " if compared else ""
    shown = f"{len(tiles)} of {count}" if len(tiles) < count else f"all {count}"
    return f"{pair[0]} and {pair[1]} taken for each other, images {seen}: {shown}, {order}the most confident first"


def _shown(tile: Tile) -> dict[str, object]:
    """Return what the template says of a tile."""
    answer = tile.answer
    alt = f"image {answer.index}: {answer.true} taken for {answer.predicted}, confidence {answer.confidence:.0%}"
    alt += {None: "", True: "; the baseline is right", False: "; the baseline is wrong too"}[tile.new]
    news = {None: "", True: "new", False: "baseline wrong too"}[tile.new]
    return {
        "index": answer.index,
        "true": answer.true,
        "predicted": answer.predicted,
        "about": " · ".join(filter(None, (f"confidence {answer.confidence:.0%}", news))),
        "alt": alt,
        "source": _data_uri(tile.pixels),
    }


def _data_uri(pixels: np.ndarray) -> str:
    """Return an image (H, W, C) uint8 in a `data:` address: small ones exactly, large ones made smaller."""
    rgb = np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels[..., :3]
    quality = 101  # Without loss.
    if max(rgb.shape[:2]) > _LARGEST:
        height, width = (max(1, round(_LARGEST * side / max(rgb.shape[:2]))) for side in rgb.shape[:2])
        rgb, quality = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA), 60
    _, encoded = cv2.imencode(".webp", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_WEBP_QUALITY, quality])
    return f"data:image/webp;base64,{base64.b64encode(encoded.tobytes()).decode()}"
