"""Pictures of one image as several models see it, small ones of many images, and strips of images as a file.

An image stands beside its Grad-CAM maps and the leading classes of each model. An image of the consensus set shows the
mean prediction of the reference models in the place of the other model. An unchanged image is not shown twice.
"""

from __future__ import annotations

import io
import textwrap
from typing import TYPE_CHECKING, Literal, NamedTuple

import cv2
import numpy as np

from harness.measures.panel.predictions import LIKELIEST
from harness.perturb import IDENTITY
from harness.report.figures import figure, styled
from harness.report.page import render
from harness.run.shown import AS_SEEN, Case, Column, Face, Line, address_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from markupsafe import Markup
    from matplotlib.figure import Figure

    from harness.measures.failures import Answer
    from harness.perturb import Pose
    from harness.run.examples import Example, ModelView, Tile

SIZE = 168
"""Pixels of the longer side of an image in a picture, a multiple of 28."""
_SMALL, _EXACT = 96, 64
"""Pixels of the longer side that a small picture keeps, and those up to which nothing of an image is lost."""
_QUALITY = 50
_FAINTEST, _STRONGEST = 0.2, 0.8
"""Share of the heat map's color in a pixel where a model looks least and most; the rest is the image."""
_LETTERS = 20
"""Letters of a line in a strip."""


class View(NamedTuple):
    """An image (H, W, 3) uint8 or None, between its title and its lines; `words` describe it."""

    title: str
    pixels: np.ndarray | None
    lines: tuple[Line, ...]
    words: str


def case_of(example: Example) -> Case:
    """Return the picture of an image with a description of each of its views, and how to read them."""
    columns = (
        Column(title, source_of(pixels, SIZE), lines, words)
        for title, pixels, lines, words in views_of(example)
    )
    maps = [view.attention for _, view in _models(example) if view.attention is not None]
    how = (
        "Yellow marks where a model looks most; each map is scaled to its own maximum, for display."
    )
    if not maps:
        how = "The model has no layer for a Grad-CAM map."
    elif not any(each.any() for each in maps):
        how = "Nothing in the image supports the prediction: the Grad-CAM map is zero everywhere."
    if example.reference:
        reference_models, answer = example.reference
        how = f"All {reference_models} reference models predict it correctly, {answer.sure} mean confidence. {how}"
    posed = (
        f", {example.pose}{'' if _changed(example) else ', which does not change it'}"
        if example.pose
        else ""
    )
    return Case(tuple(columns), f"Image {example.index}, {example.true}{posed}. {how}")


def views_of(example: Example) -> list[View]:
    """Return the views of an image: the original, the image as seen if that is another, and each model's."""
    answer = example.at_rest if example.pose else None
    lines = [Line(f"true: {example.true}", "right")]
    lines += [Line(f"{example.name}: {marked(answer)}", _kind(answer))] if answer else []
    title = f"image {example.index}"
    found = [View(title, _rgb(example.original), tuple(lines), f"{title}, {example.true}")]
    if _changed(example):
        found.append(
            View(AS_SEEN, _rgb(example.seen), (Line(example.pose),), f"{title}, {example.pose}")
        )
    for name, view in _models(example):
        pixels, shares, looks = None, _classes(example, view), "looks nowhere"
        if (heat := view.attention) is not None and heat.any():
            pixels = _heated(_rgb(example.seen), heat / heat.max())
            # The ninth of the image in which the attention is highest.
            highest = zip(divmod(int(heat.argmax()), heat.shape[1]), heat.shape, strict=True)
            row, column = (3 * at // side for at, side in highest)
            looks = f"looks most at the {('upper', 'middle', 'lower')[row]} {('left', 'center', 'right')[column]}"
        elif heat is not None:
            shares = (Line("looks nowhere"), *shares)
        found.append(View(name, pixels, shares, f"{name} {looks}"))
    return found


def _models(example: Example) -> list[tuple[str, ModelView]]:
    """Return the views of the image by name: of reference models, which have no map, or another model, and its own."""
    from harness.run.examples import ModelView

    own = example.name, example.candidate
    if example.reference:
        return [(f"{example.reference[0]} reference models", ModelView(example.reference[1])), own]
    return [*([(example.against, example.other)] if example.other else []), own]


def _changed(example: Example) -> bool:
    return bool(example.pose) and not np.array_equal(example.original, example.seen)


def answered(answer: Answer) -> str:
    """Return a prediction with its confidence."""
    return f"{answer.predicted} {answer.sure}".strip()


def marked(answer: Answer) -> str:
    """Return a prediction with its confidence and the mark of a correct or wrong one."""
    return f"{'✓' if answer.predicted == answer.true else '✗'} {answered(answer)}"


def _kind(answer: Answer) -> Literal["right", "wrong"]:
    return "right" if answer.predicted == answer.true else "wrong"


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
            kind: Literal["right", "wrong", ""] = "right" if true else "wrong" if own else ""
            lines.append(Line(text, kind, float(shares[name])))
    return tuple(lines)


def _rgb(image: np.ndarray) -> np.ndarray:
    return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image[..., :3]


def _heated(rgb: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Return an image (H, W, 3) uint8 under a heat map (H, W) in [0, 1]."""
    height, width = (max(1, round(SIZE * side / max(rgb.shape[:2]))) for side in rgb.shape[:2])
    larger = max(rgb.shape[:2]) > SIZE
    rgb = cv2.resize(
        rgb, (width, height), interpolation=cv2.INTER_AREA if larger else cv2.INTER_NEAREST
    )
    shares = cv2.resize(heat.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    colors = cv2.applyColorMap((shares * 255).round().astype(np.uint8), cv2.COLORMAP_VIRIDIS)
    opacity = _FAINTEST + (_STRONGEST - _FAINTEST) * shares
    return np.asarray(
        cv2.blendLinear(rgb, cv2.cvtColor(colors, cv2.COLOR_BGR2RGB), 1 - opacity, opacity)
    )


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
    return address_of(content.getvalue())


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


def sheet(title: str, faces: Sequence[Face]) -> Markup:
    """Return the images as a list under a title, in as many columns as the page has room for; empty without images."""
    return render("gallery", title=title, faces=faces)


def mistake(
    image: str,
    index: int,
    names: tuple[str, str],
    confidence: float | None,
    *,
    about: str = "",
    also: str = "",
    known: str = "",
) -> Face:
    """Return an image with a wrong prediction; `names` are its true and its predicted class.

    `about` stands below it; `also` ends the description for those who cannot see it.
    """
    true, predicted = names
    sure = "" if confidence is None else f"{confidence:.0%}"
    also = f"; {also}" if also else ""
    words = f"image {index}: {true} predicted as {predicted}{f', confidence {sure}' if sure else ''}{also}"
    about = " · ".join(filter(None, (sure, about, f"image {index}")))
    return Face(image, true, predicted, about, words, known=known)


def gallery(
    pair: tuple[str, str], pose: Pose, tiles: Sequence[Tile], count: int
) -> tuple[str, tuple[Face, ...]]:
    """Return the title of tiles, which are some of so many failures, and the tiles as images of a sheet."""
    faces = []
    for tile in tiles:
        answer, about = (
            tile.answer,
            "" if tile.new is None else "new" if tile.new else f"{tile.against} wrong too",
        )
        names = answer.true, answer.predicted
        faces.append(
            mistake(
                source_of(tile.pixels),
                answer.index,
                names,
                answer.confidence,
                about=about,
                also=about,
            )
        )
    images = "clean images" if pose == IDENTITY else f"images {pose.in_words()}"
    order = ", new ones first" if any(tile.new for tile in tiles) else ""
    order += in_order(tile.answer.confidence for tile in tiles)
    return (
        f"{pair[0]} and {pair[1]} predicted as each other, {images}: {len(tiles)} of {count}{order}",
        tuple(faces),
    )


def in_order(confidences: Iterable[float | None]) -> str:
    """Return words on the order of failures; empty where a predictor of labels gives no confidence."""
    return "" if None in {*confidences} else ", the most confident first"
