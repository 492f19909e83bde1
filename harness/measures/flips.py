"""Flips between two models on the same images: correct predictions lost and gained, and their significance.

Negative flips are lost correct predictions of the incumbent, which users notice even at the same accuracy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.base.errors import NotApplicableError
from harness.measures import selection
from harness.measures.metric import Measurement, Metric, Unit, count_of
from harness.measures.statistics import Z95, mcnemar_p

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.inference import Predictions

NEGATIVE_FLIPS = Metric(
    "negative_flips", Unit.IMAGES, better="less", scale="root", words="lost correct predictions of the incumbent"
)


@dataclass(frozen=True, eq=False)
class Flips:
    """The images, among `n`, that only one of two models predicts correctly.

    `lost` and `gained` are the images' numbers in the data set, ascending. `by_class` counts (lost, gained) for each
    true class. `by_pair` does so for each confusion "true→predicted" that is new (lost) or gone (gained). Both begin
    with the most frequent. `net` is the change of accuracy, in [-1, 1]. `interval` is its 95% interval, Wald's for
    paired proportions (Newcombe 1998, method 1). `p_value` is that of the exact two-sided McNemar test.
    """

    n: int
    lost: np.ndarray
    gained: np.ndarray
    by_class: Mapping[str, tuple[int, int]]
    by_pair: Mapping[str, tuple[int, int]]

    @property
    def net(self) -> float:
        return (len(self.gained) - len(self.lost)) / self.n

    @property
    def interval(self) -> tuple[float, float]:
        changed = len(self.gained) + len(self.lost)
        margin = Z95 * math.sqrt(max(changed - self.n * self.net**2, 0)) / self.n
        return self.net - margin, self.net + margin

    @property
    def p_value(self) -> float:
        return mcnemar_p(len(self.lost), len(self.gained))

    def as_json(self) -> dict[str, Any]:
        """Return the flips in plain types."""
        return {
            "net": self.net,
            "interval": list(self.interval),
            "mcnemar_p": self.p_value,
            "new_failures": self.lost.tolist(),
            "fixed_failures": self.gained.tolist(),
            "by_class": {name: list(counts) for name, counts in self.by_class.items()},
            "by_pair": {name: list(counts) for name, counts in self.by_pair.items()},
        }


def flips(predictions: Predictions, other: Predictions) -> Flips:
    """Compare the predictions of two models on the same images.

    Raises `InputError` if the images differ.
    """
    selection.expect_same_images("flips", predictions, other)
    lost = np.flatnonzero(other.correct & ~predictions.correct)
    gained = np.flatnonzero(predictions.correct & ~other.correct)
    numbers, names = predictions.images.positions.numpy(), np.array(predictions.classes, dtype=object)
    true, wrong = names[predictions.labels], (names[predictions.predicted], names[other.predicted])
    return Flips(
        len(numbers),
        numbers[lost],
        numbers[gained],
        _counts(true[lost].tolist(), true[gained].tolist()),
        _counts(*((true[at] + "→" + taken[at]).tolist() for at, taken in zip((lost, gained), wrong, strict=True))),
    )


def _counts(lost: list[str], gained: list[str]) -> dict[str, tuple[int, int]]:
    counts = {name: (lost.count(name), gained.count(name)) for name in sorted({*lost, *gained})}
    return dict(sorted(counts.items(), key=lambda item: -sum(item[1])))


def negative_flips(
    predictions: Predictions,
    before: np.ndarray,
    *,
    of_class: str | None = None,
    among: np.ndarray | None = None,
    correction: float = 1.0,
) -> Measurement:
    """Return the number of negative flips: images with a correct prediction of the incumbent and a wrong one now.

    Yan et al. 2021, "Positive-Congruent Training", section 3, divide it by the number of images. `before` marks the
    correct predictions of the incumbent, (N,) bool. `of_class` counts images of one class only, and `among` only these,
    (N,) bool, though the rate is among all. The number is multiplied by a `correction`, see `PairedIncumbent`. The
    failures are the most confident first. Raises `NotApplicableError` without an image to count.
    """
    looked_at = selection.of_class(predictions, of_class)
    if not (n := int(looked_at.sum())):
        raise NotApplicableError(f"negative flips: none of {len(looked_at)} images is of class {of_class!r}")
    if among is not None:
        looked_at = looked_at & among
    lost, gained = looked_at & before & ~predictions.correct, looked_at & ~before & predictions.correct
    count, detail = int(lost.sum()), f"{int(gained.sum())} gained in return"
    if top := selection.commonest(predictions.labels, predictions.predicted, lost):
        (true, taken), most = top
        detail += f"; most often {predictions.classes[true]}→{predictions.classes[taken]}, {most}"
    corrected = count if correction == 1 else count * correction
    failures = selection.most_confident(predictions, lost)
    return count_of(NEGATIVE_FLIPS, corrected, n, detail=detail, failures=failures)
