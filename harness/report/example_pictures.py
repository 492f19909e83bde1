"""The picture of one image: the original, the image as the models saw it, their Grad-CAM maps and predictions.

The other model stands beside the candidate. An image of the consensus set shows the mean prediction of the reference
models instead. No two columns are the same: an unchanged image is not shown twice, and a model without a map has no
image. Arrays are composed with text in Matplotlib's own font, because a Matplotlib figure each would take far longer.
"""

from __future__ import annotations

import base64
import io
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np

from harness.measures.panel.predictions import LIKELIEST
from harness.report.page import render

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.ImageFont import FreeTypeFont

    from harness.measures.failures import Answer
    from harness.run.examples import Example, ModelView

Align = Literal["left", "right", "center"]
Color = tuple[int, int, int]

SIZE, GAP = 168, 8
"""Side of a square, a multiple of 28, and the space between two, in pixels."""
TEXT_HEIGHT, ROW = 24, 30
"""Height of a line of text, and of the row of a class."""

_FONT_SIZE, _BASELINE = 17, 18
_BAR, _PERCENT = 4, 50
"""Height of a class's bar, and the width kept for its percentage."""
_LEAST = 0.005
"""Smallest share that is not 0%."""
_NAME_LINES = 3
"""Lines that the name of a class takes beside its share; the last of a longer one ends in an ellipsis."""
_IN_A_ROW = 3
"""Columns that stand side by side; four stand two by two, so a phone can show their letters."""
_MAX_BYTES = 20_000
_PAPER, _FRAME, _INK = 255, 225, (20, 20, 20)
# Okabe and Ito's colors, which most color-blind people tell apart: blue for correct, vermilion for wrong.
_RIGHT: Color = (0, 114, 178)
_WRONG: Color = (213, 94, 0)
_WRONG_WORDS: Color = (176, 68, 0)  # Vermilion is too pale for letters on white.
_OTHER: Color = (140, 140, 140)
_FAINTEST, _STRONGEST = 0.2, 0.8
"""Share of the heat map's color in a pixel where a model looks least and most; the rest is the image."""


@lru_cache(maxsize=1024)
def text_line(
    text: str, width: int = SIZE, *, align: Align = "left", bold: bool = False, color: Color = _INK, paper: int = _PAPER
) -> np.ndarray:
    """Return a line of text, (TEXT_HEIGHT, width, 3) uint8; text that is too long ends in an ellipsis."""
    from PIL import Image, ImageDraw

    font = _font(bold=bold)
    if font.getlength(text) > width:
        while text and font.getlength(f"{text}…") > width:
            text = text[:-1]
        text = f"{text}…"
    canvas = Image.new("RGB", (width, TEXT_HEIGHT), (paper, paper, paper))
    x, anchor = {"left": (0, "ls"), "right": (width, "rs"), "center": (width // 2, "ms")}[align]
    ImageDraw.Draw(canvas).text((x, _BASELINE), text, fill=color, font=font, anchor=anchor)
    return np.asarray(canvas)


def wrapped(text: str, width: int = SIZE, *, bold: bool = False) -> list[str]:
    """Return a text in lines at most as wide as this, in pixels, broken between words, and within longer words."""
    font, lines = _font(bold=bold), []
    for part in text.split("\n"):
        lines.append("")
        for whole in part.split():
            word = whole
            while word:
                end = len(word)
                while end > 1 and font.getlength(word[:end]) > width:
                    end -= 1
                longer = f"{lines[-1]} {word[:end]}".lstrip()
                if lines[-1] and font.getlength(longer) > width:
                    lines.append(word[:end])
                else:
                    lines[-1] = longer
                word = word[end:]
    return lines


@lru_cache(maxsize=2)
def _font(*, bold: bool) -> FreeTypeFont:
    import matplotlib as mpl
    from PIL import ImageFont

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(mpl.get_data_path()) / "fonts/ttf" / name), _FONT_SIZE)


def picture(example: Example) -> np.ndarray:
    """Return the picture, (height, width, 3) uint8 RGB."""
    cells = [[*_lines(f"image {example.index}", bold=True), _square(example.original)]]
    cells[0] += _lines(f"true: {example.true}", bold=True, color=_RIGHT)
    if example.pose and example.at_rest:  # The prediction without the change.
        cells[0] += [*_lines(f"{example.name}:"), *_answer(example.at_rest)]
    if _changed(example):
        cells.append([*_lines("→ as seen", bold=True), _square(example.seen), *_lines(example.pose)])
    for name, view in _views(example):
        cell = _lines(name, bold=True)
        if view.attention is not None and view.attention.any():
            cell.append(_square(example.seen, (view.attention / view.attention.max()).astype(np.float32)))
        elif view.attention is not None:
            cell.append(np.full((SIZE, SIZE, 3), _FRAME, dtype=np.uint8))
            top = (SIZE - TEXT_HEIGHT) // 2
            cell[-1][top : top + TEXT_HEIGHT] = text_line("looks nowhere", align="center", paper=_FRAME)
        cells.append(cell + _classes(example, view))
    if len(cells) <= _IN_A_ROW:
        return _side_by_side(cells)
    rows = [_side_by_side(cells[at : at + 2]) for at in range(0, len(cells), 2)]
    width = max(row.shape[1] for row in rows)
    return np.vstack([_padded(row, width=width, height=len(row) + GAP) for row in rows])


def strip(tiles: Sequence[tuple[np.ndarray, str, str]]) -> np.ndarray:
    """Return images (H, W, C) uint8 side by side, each between a title and a caption, (height, width, 3) uint8 RGB.

    Titles and captions take as many lines as they need.
    """
    titles = [_lines(title) for _, title, _ in tiles]
    above = max(map(len, titles)) * TEXT_HEIGHT
    return _side_by_side(
        [
            [_padded(np.vstack(lines), height=above), _square(image), *_lines(caption)]
            for lines, (image, _, caption) in zip(titles, tiles, strict=True)
        ]
    )


def as_png(pixels: np.ndarray) -> bytes:
    """Return an RGB picture as the content of a PNG file."""
    _, encoded = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    return bytes(encoded.tobytes())


def as_html(example: Example) -> str:
    """Return the picture as a `figure` that carries its data and a description."""
    shown = picture(example)
    height, width = shown.shape[:2]
    known = {"alt": in_words(example), "caption": caption(example), "width": width, "height": height}
    return str(render("picture", source=data_uri(shown), **known))


def data_uri(pixels: np.ndarray, qualities: Sequence[int] = (50, 30, 15, 5, 1)) -> str:
    """Return an RGB picture as WebP in a `data:` address, by the first of the qualities with at most 20 kB of WebP.

    Quality 100 is without loss.
    """
    from PIL import Image

    for quality in qualities:
        content = io.BytesIO()
        # OpenCV's WebP takes twice as long, as it does not offer the method.
        Image.fromarray(pixels).save(content, "WEBP", quality=quality, method=2, lossless=quality == 100)  # noqa: PLR2004
        if content.tell() <= _MAX_BYTES:
            break
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


def in_words(example: Example) -> str:
    """Return a description of the picture for those who cannot see it."""
    said = [f"image {example.index}, true class {example.true}{_posed(example)}"]
    if example.pose and example.at_rest:
        said.append(f"{example.name}, clean: {answered(example.at_rest)}")
    for name, view in _views(example):
        then = ""
        if not example.reference or view.answer is not example.reference[1]:
            shares = view.answer.shares(example.classes).items()
            ranked = sorted(((share, name) for name, share in shares if name != view.answer.predicted), reverse=True)
            others = [f"{name} {share:.0%}" for share, name in ranked[:2] if share >= _LEAST]
            also = f" (then {', '.join(others)})" if others else ""
            then = f"{also}, {_looks(view.attention)}"
        said.append(f"{name}: {answered(view.answer)}{then}")
    return "; ".join(said)


def answered(answer: Answer) -> str:
    """Return a prediction with its confidence."""
    return f"{answer.predicted} {answer.sure}".strip()


def marked(answer: Answer) -> str:
    """Return a prediction with its confidence and the mark of a correct or wrong one."""
    return f"{'✓' if answer.predicted == answer.true else '✗'} {answered(answer)}"


def _views(example: Example) -> list[tuple[str, ModelView]]:
    """Return the views of the image by name: of the reference models or the other model, if any, and of the candidate.

    Reference models have no map.
    """
    from harness.run.examples import ModelView

    if example.reference:
        reference_models, answer = example.reference
        return [(f"{reference_models} reference models", ModelView(answer)), (example.name, example.candidate)]
    return [*([(example.against, example.other)] if example.other else []), (example.name, example.candidate)]


def _changed(example: Example) -> bool:
    return bool(example.pose) and not np.array_equal(example.original, example.seen)


def _posed(example: Example) -> str:
    if example.pose and not _changed(example):
        return f", {example.pose}, which does not change it"
    return f", {example.pose}" if example.pose else ""


def _looks(attention: np.ndarray | None) -> str:
    """Say in which ninth of the image the attention is highest."""
    if attention is None:
        return "attention not available"
    if not attention.any():
        return "no attention anywhere"
    row, column = np.unravel_index(int(attention.argmax()), attention.shape)
    down = ("upper", "middle", "lower")[3 * int(row) // attention.shape[0]]
    across = ("left", "center", "right")[3 * int(column) // attention.shape[1]]
    return f"looks most at the {down} {across}"


def _answer(answer: Answer) -> list[np.ndarray]:
    return _lines(marked(answer), color=_RIGHT if answer.predicted == answer.true else _WRONG_WORDS)


def _classes(example: Example, view: ModelView) -> list[np.ndarray]:
    """Return the leading classes and the true one, each with its bar: blue the true one, vermilion a wrong prediction.

    There are as many as the panel predictions hold.
    """
    shares, taken = view.answer.shares(example.classes), view.answer.predicted
    if not shares:
        return _answer(view.answer)
    order = sorted(shares, key=lambda name: -shares[name])
    rows: list[np.ndarray] = []
    for name in [name for at, name in enumerate(order) if at < LIKELIEST or name == example.true]:
        share, true, width = shares[name], name == example.true, SIZE - _PERCENT
        color = _RIGHT if true else (_WRONG_WORDS if name == taken else _INK)
        lines = wrapped(f"{'✓ ' if true else '✗ '}{name}" if name == taken else name, width)
        *above, last = [*lines[: _NAME_LINES - 1], " ".join(lines[_NAME_LINES - 1 :])][: len(lines)]
        percent = f"{share:.0%}" if share >= _LEAST or not share else "<1%"
        rows += [text_line(line, color=color) for line in above]
        row = np.full((ROW, SIZE, 3), _PAPER, dtype=np.uint8)
        row[:TEXT_HEIGHT, :width] = text_line(last, width, color=color)
        row[:TEXT_HEIGHT, width:] = text_line(percent, _PERCENT, align="right", color=color)
        bar = _RIGHT if true else (_WRONG if name == taken else _OTHER)
        row[TEXT_HEIGHT : TEXT_HEIGHT + _BAR, : max(round(SIZE * share), 1)] = bar
        rows.append(row)
    return rows


def _lines(text: str, *, bold: bool = False, color: Color = _INK) -> list[np.ndarray]:
    return [text_line(line, bold=bold, color=color) for line in wrapped(text, bold=bold)]


def _side_by_side(columns: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    stacked = [np.vstack(column) for column in columns]
    height = max(map(len, stacked))
    gap = np.full((height, GAP, 3), _PAPER, dtype=np.uint8)
    return np.hstack([part for column in stacked for part in (gap, _padded(column, height=height))][1:])


def _padded(pixels: np.ndarray, *, height: int = 0, width: int = 0) -> np.ndarray:
    """Return pixels with paper below and to the right, at least as high and wide as this."""
    below, beside = max(height - pixels.shape[0], 0), max(width - pixels.shape[1], 0)
    return np.pad(pixels, ((0, below), (0, beside), (0, 0)), constant_values=_PAPER)


def _square(image: np.ndarray, heat: np.ndarray | None = None) -> np.ndarray:
    """Return an image (H, W, C) uint8 in a square, its shape kept, under a heat map (H, W) in [0, 1]."""
    height, width = (max(1, round(SIZE * side / max(image.shape[:2]))) for side in image.shape[:2])
    rgb = np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image[..., :3]
    larger = max(image.shape[:2]) > SIZE
    rgb = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA if larger else cv2.INTER_NEAREST)
    if heat is not None:
        shares = cv2.resize(heat, (width, height), interpolation=cv2.INTER_LINEAR)
        colors = cv2.applyColorMap((shares * 255).round().astype(np.uint8), cv2.COLORMAP_VIRIDIS)
        opacity = _FAINTEST + (_STRONGEST - _FAINTEST) * shares
        rgb = cv2.blendLinear(rgb, cv2.cvtColor(colors, cv2.COLOR_BGR2RGB), 1 - opacity, opacity)
    square = np.full((SIZE, SIZE, 3), _FRAME, dtype=np.uint8)
    top, left = (SIZE - height) // 2, (SIZE - width) // 2
    square[top : top + height, left : left + width] = rgb
    return square
