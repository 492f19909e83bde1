"""Sheets of small pictures, each with its class, its prediction and the confidence."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
from markupsafe import Markup

from harness.perturb import IDENTITY
from harness.report.page import render

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harness.perturb import Pose
    from harness.run.examples import Tile

_LARGEST = 96
"""Pixels that a tile's picture keeps of its longer side; smaller images keep their size."""


class Face(NamedTuple):
    """An image of a sheet, (H, W, C) uint8 or None where its pixels are not known, with its class `true`.

    `said` is its prediction or state, and `wrong` marks that as an error. `about`, `beside` and `known` have further
    facts. `words` describes the image for those who cannot see it. A script chooses by `key` and by confidence, `sure`.
    """

    pixels: np.ndarray | None
    true: str
    said: str
    about: str
    words: str
    wrong: bool = True
    beside: str = ""
    known: str = ""
    key: str = ""
    sure: int = 100

    @property
    def source(self) -> str:
        """Return the address of its picture; empty without pixels."""
        return "" if self.pixels is None else data_uri(self.pixels)


def sheet(title: str, faces: Sequence[Face]) -> Markup:
    """Return the images as a list under a title, in as many columns as the page has room for; empty without images."""
    return render("gallery", title=title, faces=faces) if faces else Markup()


def mistake(
    pixels: np.ndarray | None,
    index: int,
    names: tuple[str, str],
    confidence: float | None,
    *,
    about: str = "",
    also: str = "",
) -> Face:
    """Return an image with a wrong prediction; `names` are its true and its predicted class.

    `about` stands below it; `also` ends the description for those who cannot see it.
    """
    true, predicted = names
    sure = "" if confidence is None else f"{confidence:.0%}"
    words = f"image {index}: {true} predicted as {predicted}{f', confidence {sure}' if sure else ''}{also}"
    return Face(pixels, true, predicted, " · ".join(filter(None, (sure, about, f"image {index}"))), words)


def gallery_html(title: str, tiles: Sequence[Tile]) -> str:
    """Return the tiles of a test as a sheet; "" without tiles."""
    faces = []
    for tile in tiles:
        answer, new = tile.answer, tile.new
        also = {None: "", True: f"; the {tile.against} is correct", False: f"; the {tile.against} is wrong too"}[new]
        about = {None: "", True: "new", False: f"{tile.against} wrong too"}[new]
        names = answer.true, answer.predicted
        faces.append(mistake(tile.pixels, answer.index, names, answer.confidence, about=about, also=also))
    return str(sheet(title, faces))


def thumbnails(title: str, shown: Sequence[tuple[np.ndarray, str, str, str]]) -> Markup:
    """Return images (H, W, C) uint8, each with its number, its class and its state, as a sheet."""
    faces = [
        Face(pixels, true, said, f"image {index}", f"image {index}: {true}, {said}", wrong=False)
        for pixels, index, true, said in shown
    ]
    return sheet(title, faces)


def in_order(confidences: Iterable[float | None]) -> str:
    """Return words on the order of failures; "" where a predictor of labels gives no confidence."""
    return "" if None in {*confidences} else ", the most confident first"


def gallery_title(pair: tuple[str, str], pose: Pose, tiles: Sequence[Tile], count: int) -> str:
    """Return a title of the tiles: the kind of failures, their number and their order."""
    images = "clean images" if pose == IDENTITY else f"images {pose.in_words()}"
    against = next((tile.against for tile in tiles if tile.new is not None), "")
    order = f", first those that the {against} predicts correctly" if against else ""
    shown = f"{len(tiles)} of {count}" if len(tiles) < count else f"all {count}"
    sure = in_order(tile.answer.confidence for tile in tiles)
    return f"{pair[0]} and {pair[1]} predicted as each other, {images}: {shown}{order}{sure}"


def data_uri(pixels: np.ndarray) -> str:
    """Return an image (H, W, C) uint8 in a `data:` address: small ones exactly, large ones made smaller."""
    rgb = np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels[..., :3]
    quality = 101  # Without loss.
    if max(rgb.shape[:2]) > _LARGEST:
        height, width = (max(1, round(_LARGEST * side / max(rgb.shape[:2]))) for side in rgb.shape[:2])
        rgb, quality = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA), 60
    _, encoded = cv2.imencode(".webp", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_WEBP_QUALITY, quality])
    return f"data:image/webp;base64,{base64.b64encode(encoded.tobytes()).decode()}"
