"""Slices that nobody named: images that the reference models predict alike, and what a model loses there.

k-means of the reference models' mean probabilities makes the slices. They follow from the panel predictions alone, to
the bit: from no model, sample, thread or version of a library. So a check that names a slice finds the same images.
"""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from harness.base.errors import NotApplicableError, PanelError
from harness.checks.first_checks import always
from harness.measures.metric import Measurement, Metric, Unit
from harness.measures.panel.predictions import MANY, NOT_ASKED
from harness.measures.selection import ordered
from harness.measures.statistics import mean_interval

if TYPE_CHECKING:
    from harness.inference import Predictions
    from harness.measures.panel.predictions import PanelPredictions, PanelView

IMAGES, FEWEST, MOST, LEAST = 200, 30, 60, 20
"""Images of the split for each slice, the fewest and the most slices at first, and the least images of one."""
_ROUNDS, _NAMED, _RARE = 30, 3, 0.02
"""Rounds of k-means; the most classes that a description names, and the least probability of one."""
WORST_SLICE = Metric(
    "worst_slice",
    Unit.SCORE,
    better="less",
    words="probability of the label that the worst slice loses, in standard deviations by chance",
    range=(-math.inf, math.inf),
    heavy_tailed=True,
    about_one=True,
    informational="some slice is always the worst; to judge one, copy its row from the report",
)
SLICE_LOSS = Metric(
    "slice_loss",
    Unit.DIFFERENCE,
    better="less",
    words="probability of the label that a slice loses against the reference models",
    heavy_tailed=True,
)
starter_checks = always(("slices-worst", "worst_slice"))


class Slices(NamedTuple):
    """A model's clean predictions of N images, the slices by name, and the number of each image's, `of` (N,) int64.

    `expected`, (N, C), are the reference models' mean probabilities, and `lost`, (N,), the label's loss against them.
    `chance`, (slices,), is the standard deviation of the sum of a slice's losses by chance, as if labels were drawn
    with their expected probability. It is at least one image, as for counts. A model of the panel has its
    `own` part in the mean of all, which is not in `expected`; 0 for others.
    """

    predictions: Predictions
    names: tuple[str, ...]
    of: np.ndarray
    expected: np.ndarray
    lost: np.ndarray
    chance: np.ndarray
    own: float

    @property
    def worst(self) -> int:
        """Return the number of the slice with the largest loss in these standard deviations."""
        return int((np.bincount(self.of, self.lost, len(self.names)) / self.chance).argmax())

    def facts(self, number: int) -> list[str]:
        """Return the labels of a slice, and the mean probabilities of the reference models and of the model there."""
        some, names, said = self.of == number, self.predictions.classes, []
        labels = np.eye(len(names))[self.predictions.labels]
        tables = {
            "labels": labels,
            "reference models": self.expected,
            "candidate": self.predictions.probabilities,
        }
        for what, table in tables.items():
            mean = table[some].mean(axis=0)
            first = np.argsort(-mean, kind="stable")[:_NAMED]
            said.append(
                f"{what} {', '.join(f'{names[at]} {mean[at]:.1%}' for at in first if mean[at] >= _RARE)}"
            )
        return said


def find_slices(predictions: Predictions, panel_predictions: PanelPredictions) -> Slices:
    """Return a model's clean predictions in slices; raises as `PanelPredictions.mean_of_others` does.

    Raises `NotApplicableError` for more than `MANY` classes, and for images that make no two slices.
    """
    panel_predictions.consensus_sets([predictions])  # While a panel is recorded, this records them.
    predictions.expect_known()
    expected, at = panel_predictions.mean_of_others(predictions), np.arange(len(predictions.labels))
    names, of = _slices_of(panel_predictions.view())
    of, usual = of[predictions.images.positions.numpy()], expected[at, predictions.labels]
    chance = np.sqrt(np.maximum(np.bincount(of, usual * (1 - usual), len(names)), 1))
    lost = usual - predictions.probabilities[at, predictions.labels]
    own = 1 / len(panel_predictions.models) if panel_predictions.excluded is not None else 0.0
    return Slices(predictions, names, of, expected, lost, chance, own)


@lru_cache(maxsize=2)
def _slices_of(view: PanelView) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the names of the slices, hashes of their images' numbers, and the number of each image's slice.

    A slice with fewer than `LEAST` images is dissolved, the smallest first: its images go to the nearest other one.
    """
    from scipy.spatial.distance import cdist

    known = np.flatnonzero(view.wrong != NOT_ASKED)
    if view.mean is None:
        raise NotApplicableError(
            f"more than {MANY} classes: the panel predictions have no means of so many"
        )
    points = view.mean[known].astype(np.float64)
    count = max(1, min(max(len(known) // IMAGES, FEWEST), MOST, len(known) // LEAST))
    # The start of k-means++ (Arthur & Vassilvitskii 2007). No version of NumPy changes this generator's stream.
    rng, near, first = np.random.RandomState(0), np.full(len(points), 2.0), list[int]()
    for _ in range(count):
        total = np.cumsum(near)
        first.append(int(np.searchsorted(total, rng.random_sample() * total[-1])))
        near = np.minimum(near, cdist(points, points[first[-1:]], "sqeuclidean")[:, 0])
    centers = points[first]
    for _ in range(_ROUNDS):
        chosen = cdist(points, centers, "sqeuclidean").argmin(axis=1)
        sizes = np.bincount(chosen, minlength=count)[:, None]
        sums = np.stack([np.bincount(chosen, column, count) for column in points.T], axis=1)
        centers = np.where(sizes, sums / np.maximum(sizes, 1), centers)
    far = cdist(points, centers, "sqeuclidean")
    while (sizes := np.bincount(far.argmin(axis=1), minlength=far.shape[1])).min() < LEAST and len(
        sizes
    ) > 1:
        far = np.delete(far, sizes.argmin(), axis=1)
    if len(sizes) == 1:
        raise NotApplicableError(f"{len(known)} images make no two slices of at least {LEAST}")
    of = np.zeros(len(view.wrong), dtype=np.int64)
    of[known] = far.argmin(axis=1)
    members = (known[of[known] == number].astype("<i8").tobytes() for number in range(len(sizes)))
    return tuple(hashlib.sha256(each).hexdigest()[:12] for each in members), of


def worst_slice(seen: Slices) -> Measurement:
    """Return the largest loss of a slice, in standard deviations by chance."""
    return _measured(WORST_SLICE, seen, seen.worst, seen.chance[seen.worst], n=len(seen.of))


def slice_loss(seen: Slices, name: str) -> Measurement:
    """Return the mean loss of a slice; raises `InputError` for one that the panel predictions do not make.

    While a new panel is measured, that is a `NotApplicableError`: the row must not stand in the way of a calibration.
    """
    if name not in seen.names:
        error = NotApplicableError if seen.own else PanelError
        raise error(
            f"slice {name!r}: none of the {len(seen.names)} slices of the panel predictions has these images. The "
            "reference models or the data have changed; copy the row of a new report, or remove this one"
        )
    if not (size := int((seen.of == seen.names.index(name)).sum())):
        raise NotApplicableError(f"none of the {len(seen.of)} measured images is of slice {name}")
    # A loss against the mean of all, as a candidate's is. Their spread then tells that of candidates.
    seen = seen._replace(lost=seen.lost * (1 - seen.own))
    return _measured(SLICE_LOSS, seen, seen.names.index(name), size, n=size)


def _measured(metric: Metric, seen: Slices, number: int, unit: float, *, n: int) -> Measurement:
    some = seen.of == number
    lost = seen.lost[some]
    value, factor = float(lost.sum() / unit), len(lost) / unit
    low, high = (end * factor for end in mean_interval(lost, SLICE_LOSS.range, ddof=1))
    detail = "; ".join([f"slice {seen.names[number]} of {len(seen.names)}", *seen.facts(number)])
    each, failures = lost if n == len(lost) else None, ordered(some & (seen.lost > 0), -seen.lost)
    return Measurement(
        metric, value, n, (low, high), detail, failures, each=each, counted=len(lost)
    )
