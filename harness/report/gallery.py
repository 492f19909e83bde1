"""Sheets of small pictures, each with its class, its prediction and the confidence."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
from markupsafe import Markup

from harness.perturb import IDENTITY
from harness.report.example_pictures import data_uri
from harness.report.page import Section, render

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harness.perturb import Pose
    from harness.run.examples import Tile
    from harness.run.outcome import Outcome
    from harness.run.overview import Mistake


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
        return _source(self.pixels)


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
    named = ((pixels, true, said, f"image {index}") for pixels, index, true, said in shown)
    return sheet(title, [Face(*each, f"{each[3]}: {each[1]}, {each[2]}", wrong=False) for each in named])


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


def confusions(outcome: Outcome) -> Section | None:
    """Return the candidate's confusions on clean images, each with pictures; None without mistakes."""
    overview = outcome.overview
    if overview is None or not overview.mistakes:
        return None
    counts, names = overview.models[0].confusion, overview.classes
    faces = [_face(each, names, outcome) for each in overview.mistakes]
    pairs = []
    for key in dict.fromkeys(face.key for face in faces):
        true, predicted = map(int, key.split("-"))
        pairs.append((key, f"{names[true]} → {names[predicted]}", counts[true][predicted]))
    wrong = sum(sum(row) - row[at] for at, row in enumerate(counts))
    few = "" if len(faces) == wrong else f" Pictures show {len(faces):,} of them."
    body = render(
        "confusions",
        lead=f"{wrong:,} of {overview.n:,} clean images are predicted wrong.{few}",
        pairs=sorted(pairs, key=lambda pair: -pair[2]),
        gallery=sheet("", faces),
        sure=any(each.confidence is not None for each in overview.mistakes),
    )
    return Section("confusions", "Confusions and their images", body)


def _face(wrong: Mistake, names: Sequence[str], outcome: Outcome) -> Face:
    image, known = f"image {wrong.index}", wrong.reference
    sure = "" if wrong.confidence is None else f"{wrong.confidence:.0%}"
    beside = ""
    if known is not None:
        beside = f"reference models: {known.predicted} {known.confidence:.0%}, {known.wrong} of {known.models} wrong"
    words = f"{image}: {wrong.true} predicted as {wrong.predicted} {sure}".strip()
    return Face(
        outcome.thumbnails.get(wrong.index),
        wrong.true,
        f"{wrong.predicted} {sure}".strip(),
        image,
        "; ".join(filter(None, (words, beside))),
        beside=beside,
        known=outcome.known_text(image),
        key=f"{names.index(wrong.true)}-{names.index(wrong.predicted)}",
        sure=100 if wrong.confidence is None else round(100 * wrong.confidence),
    )


def _source(pixels: np.ndarray | None) -> str:
    """Return an image (H, W, C) uint8 in a `data:` address, small ones exactly, large ones made smaller; or nothing."""
    if pixels is None:
        return ""
    rgb = np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels[..., :3]
    if (longer := max(rgb.shape[:2])) <= _LARGEST:
        return data_uri(rgb, (100,))
    height, width = (max(1, round(_LARGEST * side / longer)) for side in rgb.shape[:2])
    return data_uri(cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA), (60,))
