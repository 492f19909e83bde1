"""Loss of the label's probability in slices, against the mean of the reference models.

The loss of a slice is a sum over its images. Its unit is the standard deviation of the sum by chance alone, as if each
label were drawn with the reference models' mean probability. It is at least one image. The reference models' own worst
slices, each against the others, say how large a worst slice of a sound model is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from harness.base.errors import NotApplicableError, PanelError
from harness.features.slices.slicing import slices_of
from harness.measures.metric import Measurement, Metric, Unit
from harness.measures.panel.predictions import MANY
from harness.measures.selection import ordered
from harness.measures.statistics import Z95

if TYPE_CHECKING:
    from harness.features.slices.slicing import Slices
    from harness.inference import Predictions
    from harness.measures.panel.predictions import PanelPredictions

WORST_SLICE = Metric(
    "worst_slice",
    Unit.SCORE,
    better="less",
    words="probability of the label that the worst slice loses, in standard deviations by chance",
    range=(-math.inf, math.inf),
    budget=12.0,
    about_one=True,
    informational="a slice that nobody named is a place to look at; to judge one, copy its row from the report",
)
SLICE_LOSS = Metric(
    "slice_loss",
    Unit.DIFFERENCE,
    better="less",
    words="probability of the label that a slice loses against the reference models",
    budget=0.1,
)
_NAMED, _LEAST = 3, 0.02
"""Classes that a detail names, at most, and the least share of one."""


@dataclass(frozen=True, eq=False)
class SlicedImages:
    """A model's clean predictions of N images, and the slices of the split.

    `of` (N,) int64 is the number of each image's slice, -1 for none. `expected` (N, C) float64 are the reference models'
    mean probabilities, without the model if it is one of them.
    """

    predictions: Predictions
    slices: Slices
    of: np.ndarray
    expected: np.ndarray
    source: str

    @cached_property
    def probabilities(self) -> np.ndarray:
        """Return the model's probabilities, (N, C) float64."""
        return self.predictions.probabilities.astype(np.float64)

    @cached_property
    def lost(self) -> np.ndarray:
        """Return the loss of the label's probability, (N,) float64."""
        at = np.arange(len(self.of)), self.predictions.labels
        return np.asarray(self.expected[at] - self.probabilities[at])

    @cached_property
    def chance(self) -> np.ndarray:
        """Return the standard deviation by chance of each slice's loss, (slices,) float64, in images."""
        usual = self.expected[np.arange(len(self.of)), self.predictions.labels]
        return np.sqrt(np.maximum(self._sums(usual * (1 - usual)), 1))

    @cached_property
    def deviations(self) -> np.ndarray:
        """Return the loss of each slice in these standard deviations; that of a slice without an image is not known."""
        sizes = np.bincount(self.of[self.of >= 0], minlength=len(self.slices.names))
        return np.where(sizes, self._sums(self.lost) / self.chance, np.nan)

    def _sums(self, values: np.ndarray) -> np.ndarray:
        known = self.of >= 0
        return np.bincount(self.of[known], weights=values[known], minlength=len(self.slices.names))

    def described(self, number: int) -> tuple[str, str, str]:
        """Return the labels of a slice, and what the reference models and the model give there, as text."""
        some = self.of == number
        counts = np.bincount(self.predictions.labels[some], minlength=len(self.predictions.classes))
        means = [each[some].mean(axis=0) for each in (self.expected, self.probabilities)]
        usual, own = (self._named(mean, "{:.1%}".format) for mean in means)
        return self._named(counts / counts.sum(), lambda share: f"{share * counts.sum():.0f}"), usual, own

    def _named(self, shares: np.ndarray, said: object) -> str:
        order = np.argsort(-shares, kind="stable")[:_NAMED]
        names = self.predictions.classes
        return ", ".join(f"{names[at]} {said(shares[at])}" for at in order if shares[at] >= _LEAST)  # type: ignore[operator]


def find_slices(predictions: Predictions, panel_predictions: PanelPredictions) -> SlicedImages:
    """Return a model's clean predictions with the slices of their images.

    Raises as `PanelPredictions.consensus_sets` and `mean_of_others` do, for unknown probabilities, and
    `NotApplicableError` for more than `MANY` classes.
    """
    panel_predictions.consensus_sets([predictions])  # While a panel is recorded, it records these.
    predictions.expect_known()
    if len(predictions.classes) > MANY:
        raise NotApplicableError(f"more than {MANY} classes: the panel predictions have no means of so many")
    expected = panel_predictions.mean_of_others(predictions)
    slices, source = slices_of(panel_predictions.view()), panel_predictions.sha256
    return SlicedImages(predictions, slices, slices.of[predictions.images.positions.numpy()], expected, source)


def worst_slice(seen: SlicedImages) -> Measurement:
    """Return the largest loss of a slice, in standard deviations by chance."""
    worst = int(np.nanargmax(seen.deviations))
    some = seen.of == worst
    value = float(seen.deviations[worst])
    error = float(Z95 * np.sqrt(some.sum()) * seen.lost[some].std() / seen.chance[worst])
    detail = f"worst of {len(seen.slices.names)} slices: {_said(seen, worst)}"
    counted, failures = int(some.sum()), ordered(some & (seen.lost > 0), -seen.lost)
    return Measurement(WORST_SLICE, value, len(some), (value - error, value + error), detail, failures, counted=counted)


def slice_loss(seen: SlicedImages, name: str) -> Measurement:
    """Return the mean loss of the label's probability in a slice, in [-1, 1].

    Raises `InputError` if the panel predictions have no such slice, and `NotApplicableError` without images of it.
    """
    if name not in seen.slices.names:
        raise PanelError(
            f"slice {name!r}: the panel predictions (SHA-256 {seen.source[:12]}…) have {len(seen.slices.names)} other "
            "slices, since the reference models or the images have changed; copy a row of the report again, or remove "
            "this one"
        )
    number = seen.slices.names.index(name)
    some = seen.of == number
    if not some.any():
        raise NotApplicableError(f"none of the {len(some)} measured images is of slice {name}")
    lost = seen.lost[some]
    value, error = float(lost.mean()), float(Z95 * lost.std() / np.sqrt(len(lost)))
    interval = max(value - error, -1.0), min(value + error, 1.0)
    failures = ordered(some & (seen.lost > 0), -seen.lost)
    return Measurement(SLICE_LOSS, value, len(lost), interval, _said(seen, number), failures, each=lost)


def _said(seen: SlicedImages, number: int) -> str:
    labels, usual, own = seen.described(number)
    return f"{seen.slices.names[number]}, labels {labels}; reference models {usual}; candidate {own}"
