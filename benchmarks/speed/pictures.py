"""Pictures of a report: composed from arrays, against a Matplotlib figure for each with the same content."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import cv2
import numpy as np

from benchmarks.speed.result import Result
from benchmarks.speed.stopwatch import cores, timed
from harness.measures.failures import Answer
from harness.report.example_pictures import data_uri, picture
from harness.run.examples import Example, ModelView

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.figure import Figure

    from harness.data import LabelledImages

_DPI = 100


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


def drawn(case: Example, width: int, height: int) -> np.ndarray:
    """Return the Matplotlib picture of a case, (height, width, 4) uint8."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure_of(case, width, height))
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


def pictures(images: LabelledImages, *, count: int) -> Iterator[Result]:
    """Measure drawing pictures, each of another image, to pixels and to the bytes of a page."""
    cases = some_cases(images, count)
    height, width = picture(cases[0]).shape[:2]
    assert drawn(cases[0], width, height).shape[:2] == (height, width)

    def saved(case: Example) -> None:
        figure_of(case, width, height).savefig(io.BytesIO(), format="png")

    with cores(1):
        for what, wanted, ours, peer in (
            ("to pixels", 20.0, picture, lambda case: drawn(case, width, height)),
            ("to a file's content", None, lambda case: data_uri(picture(case)), saved),
        ):
            fast = timed(lambda ours=ours: [ours(case) for case in cases], repeats=3).cpu_seconds / count
            slow = timed(lambda peer=peer: [peer(case) for case in cases], repeats=2).cpu_seconds / count
            yield Result(
                f"pictures, CPU milliseconds each, {what}",
                f"{1e3 * fast:.1f} ms",
                f"Matplotlib {1e3 * slow:.0f} ms",
                slow / fast,
                wanted,
                f"{count} pictures of {width} × {height} pixels",
            )
