"""The 3-panel picture of one image: original | as the baseline sees it | as the candidate sees it.

Of an image that every healthy retrain gets right, their mean answer stands in the baseline's place. Each model's column
has its answer, where it looks, and the probability of every class. Composed from arrays with OpenCV, because a
Matplotlib figure each would take far longer.
"""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

import cv2
import numpy as np

from harness.report.lettering import TEXT_HEIGHT, Colour, write
from harness.report.page import render
from harness.run.cases import View

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.run.cases import Case

SIZE, GAP = 168, 8
"""Side of a square, a multiple of 28, and the space between two, in pixels."""

_ROW, _BAR, _PERCENT, _FOOT = 22, 12, 54, 4
"""Height of a bar's row and of the bar, the width kept for its percentage, and what the last letters hang down."""
_MOST_BARS = 12
_REFERENCE = "baseline"
_MAX_BYTES = 20_000
_PAPER, _FRAME, _INK = 255, 225, (20, 20, 20)
# Okabe and Ito's colours, which most colour-blind people tell apart: blue for right, vermilion for wrong.
_RIGHT: Colour = (0, 114, 178)
_WRONG: Colour = (213, 94, 0)
_WRONG_WORDS: Colour = (176, 68, 0)  # Vermilion is too pale for letters on white.
_OTHER: Colour = (140, 140, 140)
_FAINTEST, _STRONGEST = 0.2, 0.8
"""Share of the heat map's colour in a pixel where a model looks least and most; the rest is the image."""


def picture(case: Case) -> np.ndarray:
    """Return the picture, (height, width, 3) uint8 RGB."""
    names = shown_classes(case)
    columns = [
        _tile(_square(case.original), f"image {case.index}", f"true: {case.true}"),
        _tile(_square(case.seen), f"no {_REFERENCE}", ""),
        _tile(_square(case.seen), "candidate", ""),
    ]
    bars = [np.full((_ROW * len(names) + _FOOT, SIZE, 3), _PAPER, dtype=np.uint8) for _ in columns]
    for column, (role, view) in enumerate(_beside(case), start=1):
        if view is not None:
            right = view.answer.predicted == case.true
            said = f"{'✓' if right else '✗'} {answered(view)}"
            square = _square(case.seen) if case.healthy and view is not case.candidate else _overlaid(case.seen, view)
            columns[column] = _tile(square, role, said, colour=_RIGHT if right else _WRONG_WORDS)
            bars[column] = _bars(case, view)
    for row, name in enumerate(names):
        true = name == case.true
        write(
            bars[0],
            name,
            x=0,
            y=row * _ROW,
            width=SIZE - 2,
            align="right",
            bold=true,
            colour=_RIGHT if true else _INK,
        )
    return _side_by_side([np.vstack(parts) for parts in zip(columns, bars, strict=True)])


def strip(tiles: Sequence[tuple[np.ndarray, str, str]]) -> np.ndarray:
    """Return images (H, W, C) uint8 side by side, each between a title and a caption, (height, width, 3) uint8 RGB."""
    return _side_by_side([_tile(_square(image), title, caption) for image, title, caption in tiles])


def as_png(pixels: np.ndarray) -> bytes:
    """Return an RGB picture as the content of a PNG file."""
    _, encoded = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    return bytes(encoded.tobytes())


def as_html(case: Case) -> str:
    """Return the picture as a `figure` that carries its data, with what it shows in words."""
    shown = picture(case)
    height, width = shown.shape[:2]
    source = data_uri(shown)
    return str(render("picture", alt=in_words(case), caption=caption(case), width=width, height=height, source=source))


def data_uri(pixels: np.ndarray) -> str:
    """Return an RGB picture as WebP in a `data:` address; at most 20 kB of WebP."""
    from PIL import Image

    for quality in (70, 50, 30, 15, 5, 1):
        content = io.BytesIO()
        # OpenCV's WebP takes twice as long, as it does not offer the method.
        Image.fromarray(pixels).save(content, "WEBP", quality=quality, method=2)
        if content.tell() <= _MAX_BYTES:
            break
    return f"data:image/webp;base64,{base64.b64encode(content.getvalue()).decode()}"


def caption(case: Case) -> str:
    """Return the line below the picture: which image it is, and how to read the heat map."""
    views = [view for _, view in _beside(case) if view]
    how = "Yellow marks where a model looks most; each map is scaled to its own maximum, for display."
    if all(view.attention is None for view in views):
        how = "The model has no layer whose attention could be shown."
    elif all(view.attention is None or not view.attention.any() for view in views):
        how = "Nothing in the image speaks for the answer: the attention is zero everywhere."
    if case.healthy:
        retrains, answer = case.healthy
        how = f"Each of {retrains} retrains gets it right, {answer.confidence:.0%} mean confidence. {how}"
    return f"Image {case.index}, {case.true}{_posed(case)}. {how}"


def in_words(case: Case) -> str:
    """Return what the picture shows, for those who cannot see it."""
    (beside, reference), (name, candidate) = _beside(case)
    of_reference = answered(reference) if reference and case.healthy else _described(reference, case.classes)
    said = [f"{beside}: {of_reference}", f"{name}: {_described(candidate, case.classes)}"]
    return "; ".join([f"image {case.index}, true class {case.true}{_posed(case)}", *said])


def answered(view: View) -> str:
    """Return a model's answer with its confidence."""
    return f"{view.answer.predicted} {view.answer.confidence:.0%}"


def shown_classes(case: Case) -> list[str]:
    """Return the classes that have bars: all, or where there are many the true one and those that a model thinks of."""
    if len(case.classes) <= _MOST_BARS:
        return list(case.classes)
    likeliest = np.max([view.answer.probabilities for _, view in _beside(case) if view], axis=0)
    order = sorted(range(len(case.classes)), key=lambda label: (case.classes[label] != case.true, -likeliest[label]))
    return [case.classes[label] for label in sorted(order[:_MOST_BARS])]


def _beside(case: Case) -> tuple[tuple[str, View | None], tuple[str, View | None]]:
    """Return what stands beside the original, by name: healthy retrains or the baseline, and the candidate."""
    if case.healthy:
        retrains, answer = case.healthy
        return (f"{retrains} retrains, mean", View(answer)), ("candidate", case.candidate)
    return (_REFERENCE, case.baseline), ("candidate", case.candidate)


def _posed(case: Case) -> str:
    return f", {case.pose}" if case.pose else ""


def _described(view: View | None, classes: Sequence[str]) -> str:
    if view is None:
        return "none"
    shares = zip(view.answer.probabilities, classes, strict=True)
    others = [f"{name} {share:.0%}" for share, name in sorted(shares, reverse=True)[1:3] if share >= 0.005]  # noqa: PLR2004
    then = f" (then {', '.join(others)})" if others else ""
    return f"{answered(view)}{then}, {_looks(view.attention)}"


def _looks(attention: np.ndarray | None) -> str:
    """Say in which ninth of the image the attention is highest."""
    if attention is None:
        return "attention not available"
    if not attention.any():
        return "no attention anywhere"
    row, column = np.unravel_index(int(attention.argmax()), attention.shape)
    down = ("upper", "middle", "lower")[3 * int(row) // attention.shape[0]]
    across = ("left", "centre", "right")[3 * int(column) // attention.shape[1]]
    return f"looks most at the {down} {across}"


def _side_by_side(columns: Sequence[np.ndarray]) -> np.ndarray:
    gap = np.full((columns[0].shape[0], GAP, 3), _PAPER, dtype=np.uint8)
    return np.hstack([part for column in columns for part in (gap, column)][1:])


def _tile(square: np.ndarray, title: str, caption: str, *, colour: Colour = _INK) -> np.ndarray:
    """Return a square, (SIZE, SIZE, 3), between two lines of text."""
    tile = np.full((SIZE + 2 * TEXT_HEIGHT, SIZE, 3), _PAPER, dtype=np.uint8)
    tile[TEXT_HEIGHT : TEXT_HEIGHT + SIZE] = square
    write(tile, title, x=0, y=0, width=SIZE, bold=True)
    write(tile, caption, x=0, y=TEXT_HEIGHT + SIZE, width=SIZE, colour=colour)
    return tile


def _square(image: np.ndarray, heat: np.ndarray | None = None) -> np.ndarray:
    """Return an image (H, W, C) uint8 in a square, its shape kept, under a heat map (H, W) in [0, 1]."""
    height, width = (max(1, round(SIZE * side / max(image.shape[:2]))) for side in image.shape[:2])
    rgb = np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image[..., :3]
    larger = max(image.shape[:2]) > SIZE
    rgb = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA if larger else cv2.INTER_NEAREST)
    if heat is not None:
        shares = cv2.resize(heat, (width, height), interpolation=cv2.INTER_LINEAR)
        colours = cv2.applyColorMap((shares * 255).round().astype(np.uint8), cv2.COLORMAP_VIRIDIS)
        opacity = _FAINTEST + (_STRONGEST - _FAINTEST) * shares
        rgb = cv2.blendLinear(rgb, cv2.cvtColor(colours, cv2.COLOR_BGR2RGB), 1 - opacity, opacity)
    square = np.full((SIZE, SIZE, 3), _FRAME, dtype=np.uint8)
    top, left = (SIZE - height) // 2, (SIZE - width) // 2
    square[top : top + height, left : left + width] = rgb
    return square


def _overlaid(image: np.ndarray, view: View) -> np.ndarray:
    """Return an image under where the model looks, scaled to its maximum, or with a line that says "nowhere"."""
    attention = view.attention
    if attention is None or not attention.any():
        square, note = _square(image), "no attention" if attention is not None else "attention n/a"
        square[-TEXT_HEIGHT:] = _PAPER
        write(square, note, x=0, y=SIZE - TEXT_HEIGHT, width=SIZE, align="centre")
        return square
    return _square(image, (attention / attention.max()).astype(np.float32))


def _bars(case: Case, view: View) -> np.ndarray:
    """Return a bar for each class shown: blue the true class, vermilion a wrong answer, grey the others."""
    names = shown_classes(case)
    canvas = np.full((_ROW * len(names) + _FOOT, SIZE, 3), _PAPER, dtype=np.uint8)
    longest = SIZE - _PERCENT
    for row, name in enumerate(names):
        share = view.answer.probabilities[case.classes.index(name)]
        colour = _RIGHT if name == case.true else (_WRONG if name == view.answer.predicted else _OTHER)
        top, length = row * _ROW + (_ROW - _BAR) // 2, round(longest * share)
        canvas[top : top + _BAR, : max(length, 1)] = colour if length else _OTHER
        if share >= 0.005:  # noqa: PLR2004  What would read 0% is left out.
            write(canvas, f"{share:.0%}", x=length + 4, y=row * _ROW, width=_PERCENT - 4)
    return canvas
