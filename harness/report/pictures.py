"""Pictures of one image as several models see it, sheets of small ones, and strips of images as a file.

An image stands beside its Grad-CAM maps and the leading classes of each model. An image of the consensus set shows the
mean prediction of the reference models in the place of the other model. An unchanged image is not shown twice.
"""

from __future__ import annotations

import base64
import io
import textwrap
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
from markupsafe import Markup

from harness.measures.panel.predictions import LIKELIEST
from harness.perturb import IDENTITY
from harness.report.figures import figure, styled
from harness.report.page import render

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from matplotlib.figure import Figure

    from harness.measures.failures import Answer
    from harness.perturb import Pose
    from harness.run.examples import Example, ModelView, Tile

SIZE = 168
"""Pixels of the longer side of an image in a picture, a multiple of 28."""
_SMALL, _EXACT = 96, 64
"""Pixels of the longer side that a small picture keeps, and those up to which nothing of an image is lost."""
_QUALITY = 50
_LEAST = 0.005
"""Smallest share that is not 0%."""
_FAINTEST, _STRONGEST = 0.2, 0.8
"""Share of the heat map's color in a pixel where a model looks least and most; the rest is the image."""
_LETTERS = 20
"""Letters of a line in a strip."""


class Line(NamedTuple):
    """A line below an image: a text, `right`, `wrong` or neither, and the share of a class, in [0, 1]."""

    text: str
    kind: str = ""
    share: float | None = None

    @property
    def percent(self) -> str:
        """Return the share as text."""
        return "" if self.share is None else f"{self.share:.0%}" if self.share >= _LEAST or not self.share else "<1%"


class Column(NamedTuple):
    """An image (H, W, 3) uint8 or None, between its title and its lines; `words` describe it."""

    title: str
    pixels: np.ndarray | None
    lines: tuple[Line, ...]
    words: str

    @property
    def source(self) -> str:
        """Return the address of the image; empty without one."""
        return source_of(self.pixels, SIZE)


def columns_of(example: Example) -> list[Column]:
    """Return the columns of an image: the original, the image as seen if that is another, and each model's."""
    answer = example.at_rest if example.pose else None
    lines = [Line(f"true: {example.true}", "right")]
    lines += [Line(f"{example.name}: {marked(answer)}", _kind(answer))] if answer else []
    title = f"image {example.index}"
    found = [Column(title, _rgb(example.original), tuple(lines), f"{title}, {example.true}")]
    if _changed(example):
        found.append(Column("→ as seen", _rgb(example.seen), (Line(example.pose),), f"{title}, {example.pose}"))
    for name, view in _views(example):
        pixels, shares = None, _classes(example, view)
        if view.attention is not None and view.attention.any():
            pixels = _heated(_rgb(example.seen), view.attention / view.attention.max())
        elif view.attention is not None:
            shares = (Line("looks nowhere"), *shares)
        found.append(Column(name, pixels, shares, f"{name} {_looks(view.attention)}"))
    return found


def as_html(example: Example) -> str:
    """Return the picture of an image as a `figure` that carries its data and a description."""
    return str(render("picture", columns=columns_of(example), caption=caption(example)))


def picture(example: Example) -> Figure:
    """Draw the picture of an image as a figure, for a file."""
    blank = np.full((SIZE, SIZE, 3), 255, np.uint8)
    tiles = []
    for column in columns_of(example):
        lines = "\n".join(f"{line.text} {line.percent}" for line in column.lines)
        tiles.append((blank if column.pixels is None else column.pixels, column.title, lines))
    return strip(tiles)


@styled
def strip(tiles: Sequence[tuple[np.ndarray, str, str]]) -> Figure:
    """Draw images (H, W, C) uint8 side by side, each between a title and a caption."""
    texts = [tuple(wrapped(text) for text in (title, below)) for _, title, below in tiles]
    lines = sum(max(text[at].count("\n") + 1 for text in texts) for at in (0, 1))
    drawn = figure(1.9 * len(tiles), 1.9 + 0.18 * lines)
    every = drawn.subplots(1, len(tiles), squeeze=False).flat
    for axes, (pixels, *_), (title, below) in zip(every, tiles, texts, strict=True):
        axes.imshow(_rgb(pixels), interpolation="nearest")
        axes.set_title(title, fontsize=10)
        axes.set_xlabel(below, fontsize=10)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(b=False)
    return drawn


def wrapped(text: str) -> str:
    """Return a text in lines that are as wide as an image of a strip."""
    return "\n".join("\n".join(textwrap.wrap(line, _LETTERS)) for line in text.split("\n"))


def source_of(pixels: np.ndarray | None, largest: int = _SMALL) -> str:
    """Return an image (H, W, C) uint8 as WebP in a `data:` address; empty without one.

    Small ones are exact, and larger ones are made smaller.
    """
    from PIL import Image

    if pixels is None:
        return ""
    rgb, content = _rgb(pixels), io.BytesIO()
    if (longer := max(rgb.shape[:2])) > largest:
        height, width = (max(1, round(largest * side / longer)) for side in rgb.shape[:2])
        rgb = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)
    exact = {"lossless": True, "quality": 100} if longer <= _EXACT else {"quality": _QUALITY}
    # OpenCV's WebP takes twice as long, as it does not offer the method.
    Image.fromarray(rgb).save(content, "WEBP", method=2, **exact)
    return f"data:image/webp;base64,{base64.b64encode(content.getvalue()).decode()}"


def caption(example: Example) -> str:
    """Return the line below the picture: the image, and how to read the heat map."""
    views = [view for _, view in _views(example)]
    how = "Yellow marks where a model looks most; each map is scaled to its own maximum, for display."
    if all(view.attention is None for view in views):
        how = "The model has no layer for a Grad-CAM map."
    elif not any(view.attention is not None and view.attention.any() for view in views):
        how = "Nothing in the image supports the prediction: the Grad-CAM map is zero everywhere."
    if example.reference:
        reference_models, answer = example.reference
        how = f"All {reference_models} reference models predict it correctly, {answer.sure} mean confidence. {how}"
    return f"Image {example.index}, {example.true}{_posed(example)}. {how}"


def answered(answer: Answer) -> str:
    """Return a prediction with its confidence."""
    return f"{answer.predicted} {answer.sure}".strip()


def marked(answer: Answer) -> str:
    """Return a prediction with its confidence and the mark of a correct or wrong one."""
    return f"{'✓' if answer.predicted == answer.true else '✗'} {answered(answer)}"


def _kind(answer: Answer) -> str:
    return "right" if answer.predicted == answer.true else "wrong"


def _views(example: Example) -> list[tuple[str, ModelView]]:
    """Return the views of the image by name: of reference models, which have no map, or another model, and its own."""
    from harness.run.examples import ModelView

    own = example.name, example.candidate
    if example.reference:
        return [(f"{example.reference[0]} reference models", ModelView(example.reference[1])), own]
    return [*([(example.against, example.other)] if example.other else []), own]


def _changed(example: Example) -> bool:
    return bool(example.pose) and not np.array_equal(example.original, example.seen)


def _posed(example: Example) -> str:
    which = "" if _changed(example) else ", which does not change it"
    return f", {example.pose}{which}" if example.pose else ""


def _looks(attention: np.ndarray | None) -> str:
    """Say in which ninth of the image the attention is highest."""
    if attention is None or not attention.any():
        return "looks nowhere"
    row, column = np.unravel_index(int(attention.argmax()), attention.shape)
    down = ("upper", "middle", "lower")[3 * int(row) // attention.shape[0]]
    across = ("left", "center", "right")[3 * int(column) // attention.shape[1]]
    return f"looks most at the {down} {across}"


def _classes(example: Example, view: ModelView) -> tuple[Line, ...]:
    """Return the leading classes and the true one, as many as panel predictions hold, each with its share."""
    shares, taken = view.answer.shares(example.classes), view.answer.predicted
    if not shares:
        return (Line(marked(view.answer), _kind(view.answer)),)
    lines = []
    for at, name in enumerate(sorted(shares, key=lambda name: -shares[name])):
        true, own = name == example.true, name == taken
        if at < LIKELIEST or true:
            text = f"{'✓' if true else '✗'} {name}" if own else name
            lines.append(Line(text, "right" if true else "wrong" if own else "", shares[name]))
    return tuple(lines)


def _rgb(image: np.ndarray) -> np.ndarray:
    return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image[..., :3]


def _heated(rgb: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Return an image (H, W, 3) uint8 under a heat map (H, W) in [0, 1]."""
    height, width = (max(1, round(SIZE * side / max(rgb.shape[:2]))) for side in rgb.shape[:2])
    larger = max(rgb.shape[:2]) > SIZE
    rgb = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA if larger else cv2.INTER_NEAREST)
    shares = cv2.resize(heat.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    colors = cv2.applyColorMap((shares * 255).round().astype(np.uint8), cv2.COLORMAP_VIRIDIS)
    opacity = _FAINTEST + (_STRONGEST - _FAINTEST) * shares
    return np.asarray(cv2.blendLinear(rgb, cv2.cvtColor(colors, cv2.COLOR_BGR2RGB), 1 - opacity, opacity))


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
        answer, about = tile.answer, "" if tile.new is None else "new" if tile.new else f"{tile.against} wrong too"
        names, also = (answer.true, answer.predicted), f"; {about}" if about else ""
        faces.append(mistake(tile.pixels, answer.index, names, answer.confidence, about=about, also=also))
    return str(sheet(title, faces))


def in_order(confidences: Iterable[float | None]) -> str:
    """Return words on the order of failures; empty where a predictor of labels gives no confidence."""
    return "" if None in {*confidences} else ", the most confident first"


def gallery_title(pair: tuple[str, str], pose: Pose, tiles: Sequence[Tile], count: int) -> str:
    """Return a title of the tiles: the kind of failures, their number and their order."""
    images = "clean images" if pose == IDENTITY else f"images {pose.in_words()}"
    order = ", new ones first" if any(tile.new for tile in tiles) else ""
    sure = in_order(tile.answer.confidence for tile in tiles)
    return f"{pair[0]} and {pair[1]} predicted as each other, {images}: {len(tiles)} of {count}{order}{sure}"
