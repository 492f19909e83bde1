"""Found slices: images that the reference models predict alike, and what a model loses there.

k-means of the reference models' mean probabilities makes the slices. They follow from the panel
predictions alone, to the bit: from no model, sample, thread or version of a library. So a check
that names a slice finds the same images.
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

IMAGES = 200
"""Images of the split for each slice, at first."""
FEWEST = 30
"""Fewest slices at first."""
MOST = 60
"""Most slices at first."""
LEAST = 20
"""Fewest images of a slice."""
_ROUNDS = 30
"""Rounds of k-means."""
_NAMED = 3
"""Most classes that a description names."""
_RARE = 0.02
"""Smallest probability of a class that a description names."""
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
    """A model's clean predictions of N images in slices.

    `names` are those of the slices, and `of`, (N,) int64, is the number of each image's slice.
    `expected`, (N, C), are the reference models' mean probabilities, and `lost`, (N,), the label's
    loss against them. `chance`, (slices,), is the standard deviation of the sum of a slice's losses
    by chance, as if labels were drawn with their expected probability. It is at least one image, as
    for counts. A model of the panel has its `own` part in the mean of all, which is not in
    `expected`; 0 for others.
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
        losses = np.bincount(self.of, self.lost, len(self.names))
        return int((losses / self.chance).argmax())

    def facts(self, number: int) -> list[str]:
        """Return the labels of a slice, and the mean probabilities that models give there."""
        classes = self.predictions.classes
        in_slice = self.of == number
        tables = {
            "labels": np.eye(len(classes))[self.predictions.labels],
            "reference models": self.expected,
            "candidate": self.predictions.probabilities,
        }
        facts = []
        for title, table in tables.items():
            mean = table[in_slice].mean(axis=0)
            likeliest = np.argsort(-mean, kind="stable")[:_NAMED]
            shares = [
                f"{classes[label]} {mean[label]:.1%}" for label in likeliest if mean[label] >= _RARE
            ]
            facts.append(f"{title} {', '.join(shares)}")
        return facts


def find_slices(predictions: Predictions, panel_predictions: PanelPredictions) -> Slices:
    """Return a model's clean predictions in slices.

    Raises:
        NotApplicableError: There are more than `MANY` classes, or too few images for two slices.
        InputError: As `PanelPredictions.mean_of_others` does.
    """
    panel_predictions.consensus_sets([predictions])  # While a panel is recorded, this records them.
    predictions.expect_known()
    expected = panel_predictions.mean_of_others(predictions)
    names, slice_of_image = _slices_of(panel_predictions.view())
    slice_of_image = slice_of_image[predictions.images.positions.numpy()]

    rows = np.arange(len(predictions.labels))
    expected_of_label = expected[rows, predictions.labels]
    lost = expected_of_label - predictions.probabilities[rows, predictions.labels]
    # The variance of a label that is drawn with probability p is p (1 - p).
    variances = np.bincount(slice_of_image, expected_of_label * (1 - expected_of_label), len(names))
    chance = np.sqrt(np.maximum(variances, 1))

    own = 0.0
    if panel_predictions.excluded is not None:
        own = 1 / len(panel_predictions.models)
    return Slices(predictions, names, slice_of_image, expected, lost, chance, own)


@lru_cache(maxsize=2)
def _slices_of(view: PanelView) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the names of the slices, and the number of each image's slice.

    A name is a hash of the numbers of the images, so it names these images alone.
    """
    asked = np.flatnonzero(view.wrong != NOT_ASKED)
    if view.mean is None:
        raise NotApplicableError(
            f"more than {MANY} classes: the panel predictions have no means of so many"
        )
    points = view.mean[asked].astype(np.float64)
    count = min(max(len(asked) // IMAGES, FEWEST), MOST, len(asked) // LEAST)
    nearest = _nearest_large_centers(points, _k_means(points, max(1, count)))
    slices = int(nearest.max()) + 1
    if slices == 1:
        raise NotApplicableError(f"{len(asked)} images make no two slices of at least {LEAST}")

    slice_of_image = np.zeros(len(view.wrong), dtype=np.int64)
    slice_of_image[asked] = nearest
    names = []
    for number in range(slices):
        members = asked[nearest == number].astype("<i8")
        names.append(hashlib.sha256(members.tobytes()).hexdigest()[:12])
    return tuple(names), slice_of_image


def _k_means(points: np.ndarray, count: int) -> np.ndarray:
    """Return the centers of so many clusters of points (N, C), (count, C)."""
    from scipy.spatial.distance import cdist

    centers = points[_first_centers(points, count)]
    for _ in range(_ROUNDS):
        nearest = cdist(points, centers, "sqeuclidean").argmin(axis=1)
        sizes = np.bincount(nearest, minlength=count)[:, None]
        columns = [np.bincount(nearest, column, count) for column in points.T]
        means = np.stack(columns, axis=1) / np.maximum(sizes, 1)
        centers = np.where(sizes, means, centers)
    return np.asarray(centers)


def _first_centers(points: np.ndarray, count: int) -> list[int]:
    """Return the positions of the first centers, as k-means++ chooses them.

    Arthur & Vassilvitskii (2007), "k-means++: the advantages of careful seeding".
    """
    from scipy.spatial.distance import cdist

    rng = np.random.RandomState(0)  # No version of NumPy changes this generator's stream.
    distances = np.full(len(points), 2.0)
    positions: list[int] = []
    for _ in range(count):
        total = np.cumsum(distances)
        position = int(np.searchsorted(total, rng.random_sample() * total[-1]))
        positions.append(position)
        to_center = cdist(points, points[position : position + 1], "sqeuclidean")[:, 0]
        distances = np.minimum(distances, to_center)
    return positions


def _nearest_large_centers(points: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """Return the number of each point's nearest center, (N,), of those with `LEAST` points or more.

    The smallest cluster is dissolved first. Its points go to the nearest of the others.
    """
    from scipy.spatial.distance import cdist

    distances = cdist(points, centers, "sqeuclidean")
    while True:
        nearest = distances.argmin(axis=1)
        sizes = np.bincount(nearest, minlength=distances.shape[1])
        if sizes.min() >= LEAST or len(sizes) == 1:
            return np.asarray(nearest)
        distances = np.delete(distances, sizes.argmin(), axis=1)


def worst_slice(slices: Slices) -> Measurement:
    """Return the largest loss of a slice, in standard deviations by chance."""
    unit = slices.chance[slices.worst]
    return _measured(WORST_SLICE, slices, slices.worst, unit, n=len(slices.of))


def slice_loss(slices: Slices, name: str) -> Measurement:
    """Return the mean loss of a slice.

    Raises:
        InputError: The panel predictions make no slice of this name.
        NotApplicableError: The same while a new panel is measured, because the row must not stand
            in the way of a calibration; or no measured image is of the slice.
    """
    if name not in slices.names:
        error = NotApplicableError if slices.own else PanelError
        raise error(
            f"slice {name!r}: none of the {len(slices.names)} slices of the panel predictions has "
            "these images. The reference models or the data have changed; copy the row of a new "
            "report, or remove this one"
        )
    number = slices.names.index(name)
    size = int((slices.of == number).sum())
    if not size:
        raise NotApplicableError(f"none of the {len(slices.of)} measured images is of slice {name}")

    # A loss against the mean of all, as a candidate's is. Their spread then tells that of
    # candidates.
    against_all = slices._replace(lost=slices.lost * (1 - slices.own))
    return _measured(SLICE_LOSS, against_all, number, size, n=size)


def _measured(metric: Metric, slices: Slices, number: int, unit: float, *, n: int) -> Measurement:
    """Return the sum of a slice's losses, in this unit."""
    in_slice = slices.of == number
    losses = slices.lost[in_slice]
    factor = len(losses) / unit
    low, high = mean_interval(losses, SLICE_LOSS.range, ddof=1)
    name = f"slice {slices.names[number]} of {len(slices.names)}"
    contributions = losses if n == len(losses) else None
    return Measurement(
        metric,
        float(losses.sum() / unit),
        n,
        (low * factor, high * factor),
        "; ".join([name, *slices.facts(number)]),
        ordered(in_slice & (slices.lost > 0), -slices.lost),
        each=contributions,
        counted=len(losses),
    )
