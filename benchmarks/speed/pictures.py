"""Pictures of a report: images and markup, against a Matplotlib figure for each with the same content."""

from __future__ import annotations

import io
from collections.abc import Iterator

import cv2
import numpy as np
from matplotlib.figure import Figure

from benchmarks.speed.result import Result
from benchmarks.speed.stopwatch import cores, timed
from harness.data import LabelledImages
from harness.measures.failures import Answer
from harness.report.page import render
from harness.report.pictures import case_of
from harness.run.examples import Example, ModelView

_DPI, _WIDTH, _HEIGHT = 100, 520, 312


def some_cases(images: LabelledImages, count: int) -> list[Example]:
    """Return as many cases of these images, with answers and maps drawn at random."""
    rng = np.random.default_rng(0)

    def view(true: str) -> ModelView:
        shares = rng.dirichlet(np.full(len(images.classes), 0.3))
        taken = int(shares.argmax())
        answer = Answer(0, true, images.classes[taken], float(shares[taken]), tuple(shares.tolist()))
        # As smooth as a map of 7 x 7 cells is: noise would be what takes long to encode.
        looked = cv2.resize(rng.random((7, 7), dtype=np.float32), images.pixels.shape[-2:])
        return ModelView(answer, looked)

    cases = []
    for number in range(count):
        image, true = images.pixels[number].permute(1, 2, 0).numpy(), images.classes[int(images.labels[number])]
        cases.append(Example(number, image, image, true, images.classes, view(true), view(true)))
    return cases


def figure_of(case: Example, width: int, height: int) -> Figure:
    """Draw a case as one would with Matplotlib: image, two overlays, and the bars of both models below."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
    axes = figure.subplots(2, 3, height_ratios=[1, 1])
    axes[0, 0].imshow(case.original[..., 0], cmap="gray")
    axes[0, 0].set_title(f"image {case.index}\ntrue: {case.true}")
    axes[1, 0].axis("off")
    for column, role, view in ((1, "baseline", case.other), (2, "candidate", case.candidate)):
        assert view is not None
        assert view.attention is not None
        axes[0, column].imshow(case.seen[..., 0], cmap="gray")
        axes[0, column].imshow(view.attention / view.attention.max(), cmap="viridis", alpha=0.5)
        axes[0, column].set_title(f"{role}\n{view.answer.predicted} {view.answer.confidence:.0%}")
        colours = ["#0072b2" if name == case.true else "#8c8c8c" for name in case.classes]
        bars = axes[1, column].barh(range(len(case.classes)), view.answer.probabilities, color=colours)
        axes[1, column].bar_label(bars, [f"{share:.0%}" for share in view.answer.probabilities])
        axes[1, column].set_yticks(range(len(case.classes)), case.classes if column == 1 else [])
        axes[1, column].invert_yaxis()
    for axis in axes[0]:
        axis.axis("off")
    return figure


def pictures(images: LabelledImages, *, count: int) -> Iterator[Result]:
    """Measure making pictures, each of another image, to what a page holds of them."""
    cases = some_cases(images, count)

    def saved(case: Example) -> None:
        figure_of(case, _WIDTH, _HEIGHT).savefig(io.BytesIO(), format="png")

    with cores(1):
        fast = timed(lambda: [render("picture", case=case_of(case)) for case in cases], repeats=3).cpu_seconds / count
        slow = timed(lambda: [saved(case) for case in cases], repeats=2).cpu_seconds / count
        yield Result(
            "pictures, CPU milliseconds each, to what a page holds",
            f"{1e3 * fast:.1f} ms",
            f"Matplotlib {1e3 * slow:.0f} ms",
            slow / fast,
            None,
            f"{count} pictures",
        )
