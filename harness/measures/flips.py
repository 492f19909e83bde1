"""Flips between two models on the same images: correct predictions lost and gained, and their significance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.measures import selection
from harness.measures.statistics import Z95, mcnemar_p

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.inference import Predictions


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
    """Compare the predictions of two models on the same images; raises `InputError` if the images differ."""
    selection.expect_same_images("flips", predictions, other)
    lost = np.flatnonzero(other.correct & ~predictions.correct)
    gained = np.flatnonzero(predictions.correct & ~other.correct)
    numbers, names = (
        predictions.images.positions.numpy(),
        np.array(predictions.classes, dtype=object),
    )
    true, wrong = names[predictions.labels], (names[predictions.predicted], names[other.predicted])
    return Flips(
        len(numbers),
        numbers[lost],
        numbers[gained],
        _counts(true[lost].tolist(), true[gained].tolist()),
        _counts(
            *(
                (true[at] + "→" + taken[at]).tolist()
                for at, taken in zip((lost, gained), wrong, strict=True)
            )
        ),
    )


def _counts(lost: list[str], gained: list[str]) -> dict[str, tuple[int, int]]:
    counts = {name: (lost.count(name), gained.count(name)) for name in sorted({*lost, *gained})}
    return dict(sorted(counts.items(), key=lambda item: -sum(item[1])))
