"""Served probabilities beside the reference's, and how far a precision may move them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, get_args

import numpy as np
import torch

from harness.data.images import spread_positions
from harness.features.skew.explanation import ALPHA, NOISE, noise_p
from harness.inference.levels import largest_moves
from harness.inference.precision import Precision, in_precision

if TYPE_CHECKING:
    from harness.data import LabelledImages
    from harness.inference import RoleModel

PRECISIONS: tuple[Precision, ...] = get_args(Precision)
MATERIAL = 0.01
"""Move of a probability that float32 alone does not reach on any runtime."""
_MARGIN = 2.0
"""Times that another conversion to a precision may move probabilities more than the copy that is
measured.
"""
_MEASURED_ON = 1_000
"""Most images on which the noise of a precision is measured."""
_DECIMALS = 4
"""Most decimals of recorded probabilities whose rounding is taken into account."""
_WHOLE = 1e-6
"""Distance from a rounded probability that float32 explains."""


@dataclass(frozen=True)
class Noise:
    """The move of a probability that a precision alone explains: `limit`, at least `MATERIAL`.

    `declared` says that the precision is that of the served model. Otherwise it is the loosest of
    all.
    """

    precision: Precision
    limit: float
    declared: bool


@dataclass(frozen=True, eq=False)
class ServedProbabilities:
    """Served probabilities of N images, (N, classes), with the noise of their precision.

    They have the unit of rounding, too.
    """

    values: np.ndarray
    noise: Noise
    unit: float = 0.0

    @property
    def limit(self) -> float:
        """Return the largest move that is no evidence."""
        return self.noise.limit + self.unit

    def excess(self, logits: np.ndarray) -> np.ndarray:
        """Return how far the probabilities of logits are beyond the limit, (N,), at least 0.

        The logits are (N, classes).
        """
        return np.maximum(largest_moves(logits, self.values) - self.limit, 0.0)

    def take(self, rows: np.ndarray | slice) -> ServedProbabilities:
        """Return those of some images."""
        return replace(self, values=self.values[rows])


@dataclass(frozen=True)
class Moves:
    """Served probabilities of N images beside the reference's.

    `material` images move by more than `MATERIAL`, the `largest` by so much. `beyond` images move
    by more than `limit`, which the noise and the rounding of the file explain.
    """

    noise: Noise
    limit: float
    n: int
    material: int
    beyond: int
    largest: float

    @property
    def proven(self) -> bool:
        """Return whether more images move beyond the noise than another runtime explains."""
        return self.beyond > 0 and noise_p(self.beyond, self.n) < ALPHA


def noise_of(model: RoleModel, images: LabelledImages, declared: Precision | None) -> Noise | None:
    """Return the noise of a declared precision, or of the loosest.

    None if the model has no layers to measure it on.
    """
    if declared == "float32":
        return Noise("float32", MATERIAL, declared=True)
    if not model.provides.layers:
        return None
    some = images.take(torch.from_numpy(np.asarray(spread_positions(len(images), _MEASURED_ON))))
    expected = model.predict(some).probabilities
    limits: dict[Precision, float] = {}
    for precision in PRECISIONS if declared is None else (declared,):
        noise = largest_moves(in_precision(model, some, precision), expected)
        measured = float(np.quantile(noise, 1 - NOISE, method="higher"))
        limits[precision] = max(MATERIAL, _MARGIN * measured)
    loosest = max(limits, key=lambda precision: limits[precision])
    return Noise(loosest, limits[loosest], declared=declared is not None)


def rounding(values: np.ndarray) -> float:
    """Return the unit of the last decimal of probabilities, (N, classes).

    1 for labels, 0 for over four decimals.
    """
    for decimals in range(_DECIMALS + 1):
        rounded = np.round(values.astype(np.float64), decimals)
        if np.abs(values - rounded).max(initial=0.0) < _WHOLE:
            return 10.0**-decimals
    return 0.0


def moves_of(served: ServedProbabilities, logits: np.ndarray) -> Moves:
    """Return how far served probabilities moved from those of reference logits, (N, classes)."""
    moves = largest_moves(logits, served.values)
    material = int((moves > MATERIAL).sum())
    beyond = int((moves > served.limit).sum())
    return Moves(
        served.noise, served.limit, len(moves), material, beyond, float(moves.max(initial=0.0))
    )
