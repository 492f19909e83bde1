"""Flips between two models on the same images, and their significance.

A flip is a correct prediction that one model loses, or gains, against the other.
"""

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

    `lost` and `gained` are the images' numbers in the data set, ascending. `by_class` counts (lost,
    gained) for each true class. `by_pair` does so for each confusion "true→predicted" that is new
    (lost) or gone (gained). Both begin with the most frequent.
    """

    n: int
    lost: np.ndarray
    gained: np.ndarray
    by_class: Mapping[str, tuple[int, int]]
    by_pair: Mapping[str, tuple[int, int]]

    @property
    def net(self) -> float:
        """Return the change of accuracy, in [-1, 1]."""
        return (len(self.gained) - len(self.lost)) / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """Return the 95% interval of the change of accuracy."""
        # Wald's interval for a difference of paired proportions (Newcombe 1998, method 1).
        changed = len(self.gained) + len(self.lost)
        variance = max(changed - self.n * self.net**2, 0)
        margin = Z95 * math.sqrt(variance) / self.n
        return self.net - margin, self.net + margin

    @property
    def p_value(self) -> float:
        """Return the p-value of the exact two-sided McNemar test."""
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

    Raises:
        InputError: The images differ.
    """
    selection.expect_same_images("flips", predictions, other)
    lost = np.flatnonzero(other.correct & ~predictions.correct)
    gained = np.flatnonzero(predictions.correct & ~other.correct)

    numbers = predictions.images.positions.numpy()
    class_names = np.array(predictions.classes, dtype=object)
    true_names = class_names[predictions.labels]
    new_confusions = true_names[lost] + "→" + class_names[predictions.predicted[lost]]
    gone_confusions = true_names[gained] + "→" + class_names[other.predicted[gained]]
    return Flips(
        len(numbers),
        numbers[lost],
        numbers[gained],
        _counts(true_names[lost].tolist(), true_names[gained].tolist()),
        _counts(new_confusions.tolist(), gone_confusions.tolist()),
    )


def _counts(lost: list[str], gained: list[str]) -> dict[str, tuple[int, int]]:
    """Return the counts (lost, gained) of each name, the most frequent first."""
    names = sorted({*lost, *gained})
    counts = {name: (lost.count(name), gained.count(name)) for name in names}
    most_frequent_first = sorted(counts.items(), key=lambda item: -sum(item[1]))
    return dict(most_frequent_first)
