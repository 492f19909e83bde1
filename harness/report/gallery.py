"""Sheets of small pictures, each with its class, its prediction and the confidence."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from markupsafe import Markup

from harness.perturb import IDENTITY
from harness.report.page import render
from harness.report.pictures import source_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np

    from harness.perturb import Pose
    from harness.run.examples import Tile


class Face(NamedTuple):
    """An image of a sheet, (H, W, C) uint8 or None where its pixels are not known, with its class `true`.

    `said` is its prediction or state, and `wrong` marks that as an error. `about` and `known` have further facts.
    `words` describes the image for those who cannot see it.
    """

    pixels: np.ndarray | None
    true: str
    said: str
    about: str
    words: str
    wrong: bool = True
    known: str = ""

    @property
    def source(self) -> str:
        """Return the address of its picture; empty without pixels."""
        return source_of(self.pixels)


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
    """Return the tiles of a test as a sheet; empty without tiles."""
    faces = []
    for tile in tiles:
        answer, new = tile.answer, tile.new
        also = {None: "", True: f"; the {tile.against} is correct", False: f"; the {tile.against} is wrong too"}[new]
        about = {None: "", True: "new", False: f"{tile.against} wrong too"}[new]
        names = answer.true, answer.predicted
        faces.append(mistake(tile.pixels, answer.index, names, answer.confidence, about=about, also=also))
    return str(sheet(title, faces))


def in_order(confidences: Iterable[float | None]) -> str:
    """Return words on the order of failures; empty where a predictor of labels gives no confidence."""
    return "" if None in {*confidences} else ", the most confident first"


def gallery_title(pair: tuple[str, str], pose: Pose, tiles: Sequence[Tile], count: int) -> str:
    """Return a title of the tiles: the kind of failures, their number and their order."""
    images = "clean images" if pose == IDENTITY else f"images {pose.in_words()}"
    against = next((tile.against for tile in tiles if tile.new is not None), "")
    order = f", first those that the {against} predicts correctly" if against else ""
    shown = f"{len(tiles)} of {count}" if len(tiles) < count else f"all {count}"
    sure = in_order(tile.answer.confidence for tile in tiles)
    return f"{pair[0]} and {pair[1]} predicted as each other, {images}: {shown}{order}{sure}"
