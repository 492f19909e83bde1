"""Threshold of a check from the values of reference models: one end of a prediction interval, and the drop it detects.

This module has the only formula of the decision rule. Calibration makes thresholds with it, and the gate recomputes
those of a file.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from harness.base.records import record
from harness.measures import METRICS, Unit, never_judged
from harness.measures.metric import Direction, Scale
from harness.measures.slices import OF_ONE_GROUP

if TYPE_CHECKING:
    from collections.abc import Sequence

POWER = 0.95
"""Probability that a check fails a model with its minimum detectable drop."""
FEW = 8
"""Least number of reference models for a threshold from their own spread; with fewer, a check needs a prior."""
PROVISIONAL = 3
"""Least number of reference models for thresholds that are not provisional; two say little about a third."""
SHARES = (Unit.SHARE, Unit.DIFFERENCE)
HALF = 0.5001
"""Largest rounding error in units of the last decimal, with a margin for binary numbers."""
CONTRADICTED, AT_CHANCE = "one reference model contradicts the others", "a model at chance level"
"""Starts of the reasons for an informational check that its own mean, std and k do not show."""
STATED = "the project states"
"""Start of the reason for a check that is informational by a setting, so that its value is no sign of a fault."""
K_DECIMALS, ROOT_DECIMALS = 2, 4
"""Decimals in a checks file of a multiplier, and of mean and standard deviation on the scale of roots."""
POWER_DEVIATIONS = NormalDist().inv_cdf(POWER)
"""Standard deviations beyond the threshold at which a check fails with that probability."""


@record
class PanelCheck:
    """The measurement of a check in the checks file: `n` images, in `unit`; for `at_least`, less is worse.

    `sign` is the factor that makes more better. `definition` is the hash of the check in the checks file, without its
    thresholds; empty for a check that the file lacks. `scale` is that of a uniform spread of reference models, see
    `Metric`. `conversions` is the command that converted the reference models, if these are values of conversions. In a
    `sample` with strata, `of_loss` is the largest variance by sampling of a loss of one unit.
    """

    id: str
    family: str
    metric: str
    unit: Unit
    direction: Direction
    n: int
    definition: str = ""
    scale: Scale = "plain"
    conversions: str = ""
    of_loss: float = 0.0
    sample: str = ""

    @property
    def sign(self) -> int:
        return 1 if self.direction == "at_least" else -1


def decimals(unit: Unit) -> int:
    """Return the decimals of a threshold and a mean in this unit; a standard deviation has one more."""
    return 1 if unit is Unit.IMAGES else 4


@dataclass(frozen=True)
class Calibrated:
    """Threshold of a check with its provenance, in the unit of the metric.

    `mean` and `std` describe the reference models. `centre` and `spread` do so on the check's scale. `spread` is the
    standard deviation that counts, see `least_of`. The spread with a `prior` uses more information than the values of
    these models. `outlier` says which model's value contradicts the others. `at_chance` is the value of a model at
    chance level, None where it is not known.
    """

    check: PanelCheck
    mean: float
    std: float
    centre: float
    spread: float
    k: float
    reference_models: int
    prior: bool = False
    outlier: str = ""
    at_chance: float | None = None

    @property
    def threshold(self) -> float:
        """Return the threshold within its range, rounded outwards to four decimals, or to one for counts."""
        exact, scale = (
            self._off_by(self.k, self.reference_models),
            float(10 ** decimals(self.check.unit)),
        )
        low, high = self._range
        return min(
            max((math.floor if self.check.sign > 0 else math.ceil)(exact * scale) / scale, low),
            high,
        )

    def holds(self, value: float) -> bool:
        """Return whether a value is on the good side of the threshold."""
        return value >= self.threshold if self.check.sign > 0 else value <= self.threshold

    @property
    def minimum_detectable_drop(self) -> float:
        return self.minimum_detectable_drop_with(self.k, self.reference_models)

    def minimum_detectable_drop_with(self, k: float, reference_models: int) -> float:
        """Return the minimum detectable drop with another multiplier and number of reference models.

        A group or a sample may have few images that a loss shows on, so chance affects the loss of a candidate. For an
        expected loss of L, the variance of chance is at most v L, with v = 1 / n for a group of n. So L = k e + z
        sqrt(e^2 + v L), with the deviation of prediction e.
        """
        of_loss = self.check.of_loss or (
            1 / self.check.n if self.check.metric in OF_ONE_GROUP else 0.0
        )
        if of_loss:
            error, z = self.spread * widened(reference_models), POWER_DEVIATIONS
            middle = k * error + z * z * of_loss / 2
            return middle + math.sqrt(max(middle**2 - (k**2 - z**2) * error**2, 0.0))
        return abs(
            self._off_by(k + POWER_DEVIATIONS, reference_models)
            - off_scale(self.centre, self.check.scale)
        )

    def _off_by(self, deviations: float, reference_models: int) -> float:
        away = (
            deviations * self.spread * widened(reference_models)
        )  # Standard deviations of prediction.
        return off_scale(self.centre - self.check.sign * away, self.check.scale)

    @property
    def written(self) -> dict[str, int | float]:
        """Return the numbers of the threshold in a checks file, by their keys."""
        digits = decimals(self.check.unit)
        root = (
            {"root_mean": self.centre, "root_std": self.spread}
            if self.check.scale == "root"
            else {}
        )
        return {
            "threshold": self.threshold,
            "mean": round(self.mean, digits),
            "std": round(self.std, digits + 1),
            **{name: round(value, ROOT_DECIMALS) for name, value in root.items()},
            "k": round(self.k, K_DECIMALS),
            "reference_models": self.reference_models,
            "minimum_detectable_drop": round(self.minimum_detectable_drop, digits),
            "n": self.check.n,
            **({"of_loss": self.check.of_loss} if self.check.of_loss else {}),
        }

    @property
    def informational(self) -> str:
        """Return the reason why the check is informational, or an empty string."""
        if never := never_judged(self.check.metric):
            return never
        if self.outlier:
            return self.outlier
        if not self.prior and self.reference_models < FEW:
            return f"{_models_in_words(self.reference_models)} cannot show how much models differ here; eight can"
        number = partial(
            self.check.unit.format, decimals=None if self.check.unit is Unit.IMAGES else 3
        )
        if self.cannot_fail:
            return f"its threshold of {number(self.threshold)} cannot fail"
        if self.at_chance is not None and self.holds(self.at_chance):
            return f"{AT_CHANCE}, {number(self.at_chance)}, keeps its threshold of {number(self.threshold)}"
        return ""

    @property
    def cannot_fail(self) -> bool:
        """Return whether the threshold is the worst possible value, or beyond it."""
        low, high = self._range
        return self.threshold <= low if self.check.sign > 0 else self.threshold >= high

    @property
    def shows_spread(self) -> bool:
        """Return whether these models show how much models differ: by a prior, or since they are enough."""
        return self.prior or self.reference_models >= FEW

    @property
    def can_detect(self) -> bool:
        """Return whether a model can lose as much as the minimum detectable drop."""
        return self.minimum_detectable_drop <= largest_loss(self.mean, self._range, self.check.sign)

    @property
    def _range(self) -> tuple[float, float]:
        known = METRICS.get(self.check.metric)
        low, high = known.range if known else self.check.unit.range
        return low, float(self.check.n) if self.check.unit is Unit.IMAGES else high


_IN_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven")


def _models_in_words(count: int) -> str:
    """Return a number of reference models below `FEW` as text."""
    return f"{_IN_WORDS[count]} reference model{'' if count == 1 else 's'}"


def largest_loss(mean: float, limits: tuple[float, float], sign: int) -> float:
    """Return how far a value can fall from the mean of reference models within the limits of its metric.

    `sign` is 1 if more is better, and -1 if less is better.
    """
    low, high = limits
    return mean - low if sign > 0 else high - mean


# Scales of checks, and the least spread on them.


def least_of(values: np.ndarray, checks: Sequence[PanelCheck]) -> np.ndarray:
    """Return the minimum of each check's standard deviation, (checks,), from values on its scale, (K, checks)."""
    least = []
    for check, mean in zip(checks, values.mean(axis=0), strict=True):
        of_count = 1.0 if check.scale == "root" else max(1.0, math.sqrt(max(mean, 0)))
        of_others = 1 / check.n if check.unit in SHARES else 0.01 * abs(mean)
        least.append(of_count if check.scale == "root" or check.unit is Unit.IMAGES else of_others)
    return np.array(least)


def on_scale(values: np.ndarray, scale: Scale) -> np.ndarray:
    """Return values on a scale: unchanged, or 2 sqrt(x + 3/8) on that of roots (Anscombe 1948, equation 1.1).

    Counts of rare events are skewed to the right. Their roots are not, and those of Poisson counts have a standard
    deviation of 1 at any mean.
    """
    return 2 * np.sqrt(np.maximum(values, 0) + 3 / 8) if scale == "root" else values


def off_scale(value: float, scale: Scale) -> float:
    """Return the value for a position on the scale, the inverse of `on_scale`; for roots at least 0."""
    return max((max(value, 0.0) / 2) ** 2 - 3 / 8, 0.0) if scale == "root" else value


def on_scales(values: np.ndarray, checks: Sequence[PanelCheck]) -> np.ndarray:
    """Return the values of checks, (..., checks), each on its own scale."""
    return np.stack(
        [on_scale(values[..., at], check.scale) for at, check in enumerate(checks)], axis=-1
    )


def widened(reference_models: int) -> float:
    """Return the ratio of the spread of a prediction from K models to that from infinitely many."""
    return math.sqrt(1 + 1 / reference_models)
