"""Gain and offset of pixels, fitted to predictions.

Another scaling or normalization amounts to these.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from harness.inference.predictions import softmax

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.data.pipeline import Pipeline

_GAINS = (0.35, 0.6, 0.8, 0.9, 1.0, 1.1, 1.25, 1.7, 2.8)
_SHIFTS = (-0.7, -0.3, -0.1, -0.03, 0.0, 0.03, 0.1, 0.3, 0.7)
"""The grid of starts: gains, and shifts of the mean level."""
_EVALUATIONS = 60
"""Most evaluations of the refinement."""
_ALIKE = 1e-4
"""Difference of gains or offsets between channels that rounding explains."""
_DIGITS = 3


@dataclass(frozen=True)
class Levels:
    """A map of pixels in [0, 1]: each is multiplied by `gain`, and `offset` is added."""

    gain: float = 1.0
    offset: float = 0.0

    def __str__(self) -> str:
        """Return the map as text.

        >>> str(Levels(0.94, 0.02))
        'pixels × 0.94 + 0.02'
        """
        offset = round(self.offset, _DIGITS)
        added = f" {'+' if offset > 0 else '-'} {abs(offset):g}" if offset else ""
        return f"pixels × {self.gain:.{_DIGITS}g}{added}"

    def of(self, reference: Pipeline) -> Pipeline:
        """Return the pipeline that maps the pixels of a reference pipeline."""
        scale = reference.scale
        offset = self.gain * scale.offset + self.offset
        return reference.but("scale", divisor=scale.divisor / self.gain, offset=offset)


def levels_between(pipeline: Pipeline, reference: Pipeline) -> Levels | None:
    """Return the gain and offset that another scale and normalization amount to.

    None if channels differ in them.
    """
    gains, offsets = levels_of_channels(pipeline, reference)
    if np.ptp(gains) > _ALIKE or np.ptp(offsets) > _ALIKE:
        return None
    return Levels(float(gains.mean()), float(offsets.mean()))


def levels_of_channels(pipeline: Pipeline, reference: Pipeline) -> tuple[np.ndarray, np.ndarray]:
    """Return the gain and the offset of each channel, (C,) each.

    Another scale and normalization amount to these.
    """
    gain = reference.scale.divisor / pipeline.scale.divisor
    offset = pipeline.scale.offset - gain * reference.scale.offset
    own, expected = pipeline.normalise, reference.normalise
    ratio = np.asarray(expected.std) / np.asarray(own.std)
    gains = gain * ratio
    offsets = (offset - np.asarray(own.mean)) * ratio + np.asarray(expected.mean)
    return gains, offsets


def fitted_levels(
    loss: Callable[[Levels], float], *, mean: float, coarse: Callable[[Levels], float]
) -> Levels:
    """Return the gain and offset of least loss.

    The best of a grid, refined by the method of Nelder and Mead (1965).

    `loss` is the distance of the predictions for mapped pixels from those to explain, and `coarse`
    the same on fewer images, for the grid. `mean` is the mean pixel, in [0, 1]. Gains turn about
    it, so that gain and offset do not depend on each other.
    """
    from scipy.optimize import fmin

    def levels(log_gain: float, shift: float) -> Levels:
        gain = math.exp(log_gain)
        return Levels(gain, (1 - gain) * mean + shift)

    grid = [(math.log(gain), shift) for gain, shift in product(_GAINS, _SHIFTS)]
    start = np.array(min(grid, key=lambda at: coarse(levels(*at))))
    first_steps = np.array([(0.0, 0.0), (0.08, 0.0), (0.0, 0.03)])

    def loss_at(point: np.ndarray) -> float:
        return loss(levels(float(point[0]), float(point[1])))

    best = fmin(
        loss_at,
        start,
        initial_simplex=start + first_steps,
        maxfun=_EVALUATIONS,
        xtol=1e-3,
        ftol=0,
        disp=False,
    )
    return levels(float(best[0]), float(best[1]))


def log_likelihood_below_top(logits: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return the log of the probability of other classes, (N,), over that of the logits' own.

    0 for the same.
    """
    return np.asarray(logits[np.arange(len(logits)), predicted] - logits.max(axis=1))


def largest_moves(logits: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return the largest difference of a class's probability, (N,) in [0, 1], both (N, classes)."""
    return np.asarray(np.abs(softmax(logits) - probabilities).max(axis=1))
