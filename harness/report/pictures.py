"""Pictures of one image as several models see it, sheets of small pictures, and strips as a file.

An image stands beside the Grad-CAM map and the leading classes of each model. For an image of the
consensus set, the mean prediction of the reference models replaces that of the other model. An
image that a check has not changed is shown once.
"""

from __future__ import annotations

import io
import textwrap
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import cv2
import numpy as np

from harness.measures.panel.predictions import LIKELIEST
from harness.perturb import IDENTITY
from harness.report.figures import figure, styled
from harness.report.page import render
from harness.run.shown import AS_SEEN, CaptionLine, Case, Column, Face, address_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from markupsafe import Markup
    from matplotlib.figure import Figure

    from harness.measures.failures import Answer
    from harness.perturb import Pose
    from harness.run.examples import Example, ModelView, Tile

SIZE = 168
"""Pixels of the longer side of an image in a picture, a multiple of 28."""
_SMALL = 96
"""Pixels of the longer side of a small picture."""
_EXACT = 64
"""Pixels of the longer side up to which a picture is stored without loss."""
_QUALITY = 50
"""Quality of larger pictures as WebP, in [0, 100]."""
_FAINTEST, _STRONGEST = 0.2, 0.8
"""Opacity of the heat map where a model looks least and most."""
_LETTERS = 20
"""Letters of a line in a strip."""


class View(NamedTuple):
    """An image between its title and its lines.

    Attributes:
        title: text above the image.
        pixels: the image, (H, W, 3) uint8, or None.
        lines: lines below the image.
        words: description for readers who cannot see the image.
    """

    title: str
    pixels: np.ndarray | None
    lines: tuple[CaptionLine, ...]
    words: str


def case_of(example: Example) -> Case:
    """Return the picture of an image: its views, each described, and how to read them."""
    columns = [
        Column(view.title, source_of(view.pixels, SIZE), view.lines, view.words)
        for view in views_of(example)
    ]

    pose = ""
    if example.pose:
        unchanged = "" if _is_changed(example) else ", which does not change it"
        pose = f", {example.pose}{unchanged}"
    explanation = f"Image {example.index}, {example.true}{pose}. {_how_to_read(example)}"
    return Case(tuple(columns), explanation)


def _how_to_read(example: Example) -> str:
    """Return sentences that explain the Grad-CAM maps and, on the consensus set, the reference."""
    maps = [view.attention for _, view in _models(example) if view.attention is not None]
    if not maps:
        sentence = "The model has no layer for a Grad-CAM map."
    elif not any(heat.any() for heat in maps):
        sentence = (
            "Nothing in the image supports the prediction: the Grad-CAM map is zero everywhere."
        )
    else:
        sentence = (
            "Yellow marks where a model looks most; each map is scaled to its own maximum, for "
            "display."
        )
    if example.reference is None:
        return sentence
    count, answer = example.reference
    return (
        f"All {count} reference models predict it correctly, {answer.sure} mean confidence. "
        f"{sentence}"
    )


def views_of(example: Example) -> list[View]:
    """Return the views of an image: the original, the changed image if any, and each model's."""
    views = [_original_view(example)]
    if _is_changed(example):
        description = f"image {example.index}, {example.pose}"
        views.append(View(AS_SEEN, _rgb(example.seen), (CaptionLine(example.pose),), description))
    for name, model_view in _models(example):
        views.append(_view_of_model(example, name, model_view))
    return views


def _original_view(example: Example) -> View:
    title = f"image {example.index}"
    lines = [CaptionLine(f"true: {example.true}", "right")]
    if example.pose and example.at_rest is not None:
        answer = example.at_rest
        lines.append(CaptionLine(f"{example.name}: {marked(answer)}", _kind(answer)))
    return View(title, _rgb(example.original), tuple(lines), f"{title}, {example.true}")


def _view_of_model(example: Example, name: str, model_view: ModelView) -> View:
    """Return the heat map of a model over the image, if it has one, above the leading classes."""
    heat = model_view.attention
    lines = _class_lines(example, model_view)
    if heat is None:
        return View(name, None, lines, f"{name} looks nowhere")
    if not heat.any():
        return View(name, None, (CaptionLine("looks nowhere"), *lines), f"{name} looks nowhere")
    pixels = _heated(_rgb(example.seen), heat / heat.max())
    return View(name, pixels, lines, f"{name} looks most at the {_brightest_ninth(heat)}")


def _brightest_ninth(heat: np.ndarray) -> str:
    """Return as text in which ninth of the image a heat map (H, W) is highest."""
    height, width = heat.shape
    row, column = divmod(int(heat.argmax()), width)
    vertical = ("upper", "middle", "lower")[3 * row // height]
    horizontal = ("left", "center", "right")[3 * column // width]
    return f"{vertical} {horizontal}"


def _models(example: Example) -> list[tuple[str, ModelView]]:
    """Return how models see the image, by name: the one compared with, if any, then the candidate.

    The reference models, which have no heat map, come in the place of the other model.
    """
    from harness.run.examples import ModelView

    candidate = (example.name, example.candidate)
    if example.reference is not None:
        count, mean_answer = example.reference
        return [(f"{count} reference models", ModelView(mean_answer)), candidate]
    if example.other is not None:
        return [(example.against, example.other), candidate]
    return [candidate]


def _is_changed(example: Example) -> bool:
    return bool(example.pose) and not np.array_equal(example.original, example.seen)


def answered(answer: Answer) -> str:
    """Return a prediction with its confidence."""
    return f"{answer.predicted} {answer.sure}".strip()


def marked(answer: Answer) -> str:
    """Return a prediction with its confidence and the mark of a correct or wrong one."""
    mark = "✓" if answer.predicted == answer.true else "✗"
    return f"{mark} {answered(answer)}"


def _kind(answer: Answer) -> Literal["right", "wrong"]:
    return "right" if answer.predicted == answer.true else "wrong"


def _class_lines(example: Example, view: ModelView) -> tuple[CaptionLine, ...]:
    """Return a line for each of the leading classes and for the true class, with its share.

    The number of leading classes is that which panel predictions hold.
    """
    shares = view.answer.shares(example.classes)
    if not shares:
        return (CaptionLine(marked(view.answer), _kind(view.answer)),)

    lines = []
    ranked = sorted(shares, key=lambda name: -shares[name])
    for rank, name in enumerate(ranked):
        is_true = name == example.true
        is_predicted = name == view.answer.predicted
        if rank >= LIKELIEST and not is_true:
            continue
        kind: Literal["right", "wrong", ""] = ""
        if is_true:
            kind = "right"
        elif is_predicted:
            kind = "wrong"
        text = name
        if is_predicted:
            text = f"✓ {name}" if is_true else f"✗ {name}"
        lines.append(CaptionLine(text, kind, float(shares[name])))
    return tuple(lines)


def _rgb(image: np.ndarray) -> np.ndarray:
    """Return an image (H, W, C) with three channels; further ones are dropped."""
    if image.shape[2] == 1:
        return np.repeat(image, 3, axis=2)
    return image[..., :3]


def _heated(rgb: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Return an image (H, W, 3) uint8 under a heat map (H, W) in [0, 1]."""
    size = _scaled_size(rgb, SIZE)
    shrinks = max(rgb.shape[:2]) > SIZE
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST
    rgb = cv2.resize(rgb, size, interpolation=interpolation)

    shares = cv2.resize(heat.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    levels = (shares * 255).round().astype(np.uint8)
    bgr = cv2.applyColorMap(levels, cv2.COLORMAP_VIRIDIS)
    colors = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
    opacity = _FAINTEST + (_STRONGEST - _FAINTEST) * shares
    return np.asarray(cv2.blendLinear(rgb, colors, 1 - opacity, opacity))


def _scaled_size(image: np.ndarray, longer_side: int) -> tuple[int, int]:
    """Return the width and height at which the longer side of an image has so many pixels."""
    height, width = image.shape[:2]
    longer = max(height, width)
    return (
        max(1, round(longer_side * width / longer)),
        max(1, round(longer_side * height / longer)),
    )


def source_of(pixels: np.ndarray | None, largest: int = _SMALL) -> str:
    """Return an image as WebP in a `data:` address, or an empty text without an image.

    Small images are stored without loss, and larger ones with a longer side of `largest` pixels.

    Args:
        pixels: the image, (H, W, C) uint8, or None.
        largest: pixels of the longer side, at most.
    """
    from PIL import Image

    if pixels is None:
        return ""
    rgb = _rgb(pixels)
    longer = max(rgb.shape[:2])
    if longer > largest:
        rgb = cv2.resize(rgb, _scaled_size(rgb, largest), interpolation=cv2.INTER_AREA)
    options: dict[str, Any] = {"quality": _QUALITY}
    if longer <= _EXACT:
        options = {"lossless": True, "quality": 100}

    content = io.BytesIO()
    # OpenCV's WebP takes twice as long, because it does not offer the method.
    Image.fromarray(rgb).save(content, "WEBP", method=2, **options)
    return address_of(content.getvalue())


@styled
def strip(tiles: Sequence[tuple[np.ndarray, str, str]]) -> Figure:
    """Draw images (H, W, C) uint8 side by side, each between a title and a caption."""
    titles = [wrapped(title) for _, title, _ in tiles]
    captions = [wrapped(caption) for _, _, caption in tiles]
    lines = _most_lines(titles) + _most_lines(captions)
    picture = figure(1.9 * len(tiles), 1.9 + 0.18 * lines)

    all_axes = picture.subplots(1, len(tiles), squeeze=False).flat
    for axes, (pixels, *_), title, caption in zip(all_axes, tiles, titles, captions, strict=True):
        axes.imshow(_rgb(pixels), interpolation="nearest")
        axes.set_title(title, fontsize=10)
        axes.set_xlabel(caption, fontsize=10)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(b=False)
    return picture


def _most_lines(texts: Sequence[str]) -> int:
    return max(text.count("\n") + 1 for text in texts)


def wrapped(text: str) -> str:
    """Return a text in lines that are as wide as an image of a strip."""
    lines = ["\n".join(textwrap.wrap(line, _LETTERS)) for line in text.split("\n")]
    return "\n".join(lines)


def sheet(title: str, faces: Sequence[Face]) -> Markup:
    """Return images as a list under a title, in as many columns as the page has room for."""
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
    """Return the picture of a wrong prediction.

    Args:
        image: address of the picture.
        index: number of the image in the data.
        names: true and predicted class.
        confidence: confidence of the prediction, in [0, 1], if the model gives one.
        about: text below the picture.
        also: end of the description for readers who cannot see the picture.
        known: the known issue that explains the mistake, if any.
    """
    true, predicted = names
    sure = "" if confidence is None else f"{confidence:.0%}"
    words = f"image {index}: {true} predicted as {predicted}"
    if sure:
        words += f", confidence {sure}"
    if also:
        words += f"; {also}"
    below = " · ".join(filter(None, (sure, about, f"image {index}")))
    return Face(image, true, predicted, below, words, known=known)


def gallery(
    pair: tuple[str, str], pose: Pose, tiles: Sequence[Tile], count: int
) -> tuple[str, tuple[Face, ...]]:
    """Return the title and the pictures of a sheet of failures.

    Args:
        pair: the two classes that are predicted as each other.
        pose: the pose of the images.
        tiles: the failures that are shown.
        count: the number of all failures.
    """
    faces = []
    for tile in tiles:
        note = _novelty(tile)
        answer = tile.answer
        faces.append(
            mistake(
                source_of(tile.pixels),
                answer.index,
                (answer.true, answer.predicted),
                answer.confidence,
                about=note,
                also=note,
            )
        )

    images = "clean images" if pose == IDENTITY else f"images {pose.in_words()}"
    order = in_order(tile.answer.confidence for tile in tiles)
    if any(tile.new for tile in tiles):
        order = f", new ones first{order}"
    first, second = pair
    title = (
        f"{first} and {second} predicted as each other, {images}: {len(tiles)} of {count}{order}"
    )
    return title, tuple(faces)


def _novelty(tile: Tile) -> str:
    """Return whether a failure is new against the other model, as text; empty without one."""
    if tile.new is None:
        return ""
    return "new" if tile.new else f"{tile.against} wrong too"


def in_order(confidences: Iterable[float | None]) -> str:
    """Return words on the order of failures; empty if a predictor of labels has no confidence."""
    if None in set(confidences):
        return ""
    return ", the most confident first"
