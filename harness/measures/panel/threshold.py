"""Threshold of a check from reference models: one end of a prediction interval.

This module has the only formula of the decision rule. Calibration makes thresholds with it, and the
gate recomputes those of a file.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
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
"""Least number of reference models for a threshold from their own spread.

With fewer, a check needs a prior.
"""
PROVISIONAL = 3
"""Least number of reference models for thresholds that are not provisional.

Two say little about a third.
"""
SHARES = (Unit.SHARE, Unit.DIFFERENCE)
HALF = 0.5001
"""Largest rounding error in units of the last decimal, with a margin for binary numbers."""
CONTRADICTED = "one reference model contradicts the others"
AT_CHANCE = "a model at chance level"
"""Start of a reason for an informational check, as `CONTRADICTED`.

The check's own mean, std and k do not show such a reason.
"""
STATED = "the project states"
"""Start of the reason for a check that is informational by a setting.

Its value is then no sign of a fault.
"""
K_DECIMALS = 2
"""Decimals of a multiplier in a checks file."""
ROOT_DECIMALS = 4
"""Decimals, in a checks file, of mean and standard deviation on the scale of roots."""
POWER_DEVIATIONS = NormalDist().inv_cdf(POWER)
"""Standard deviations beyond the threshold at which a check fails with that probability."""


@record
class PanelCheck:
    """The measurement of a check in the checks file.

    Attributes:
        id: The id of the check.
        family: Its family.
        metric: The name of its metric.
        unit: The unit of its values.
        direction: The good side of its threshold; for `at_least`, less is worse.
        n: The number of images.
        definition: The hash of the check in the checks file, without its thresholds; empty for a
            check that the file lacks.
        scale: The scale of a uniform spread of reference models, see `Metric`.
        conversions: The command that converted the reference models, if these are values of
            conversions.
        of_loss: The largest variance by sampling of a loss of one unit, in a sample with strata.
        sample: The sample with strata; empty for others.
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
        """Return the factor that makes more better, 1 or -1."""
        if self.direction == "at_least":
            return 1
        return -1


def decimals(unit: Unit) -> int:
    """Return the decimals of a threshold and a mean in this unit.

    A standard deviation has one more.

    >>> decimals(Unit.SHARE), decimals(Unit.IMAGES)
    (4, 1)
    """
    if unit is Unit.IMAGES:
        return 1
    return 4


@dataclass(frozen=True)
class Calibrated:
    """Threshold of a check with its provenance, in the unit of the metric.

    `centre` is the mean of the reference models on the check's scale.

    Attributes:
        check: The check.
        mean: The mean of the reference models.
        std: Their standard deviation.
        spread: The standard deviation that counts on the check's scale, see `least_of`.
        k: The multiplier: deviations of a prediction between mean and threshold.
        reference_models: The number of reference models.
        prior: Whether the spread uses more information than the values of these models.
        outlier: The reason if one model's value contradicts the others.
        at_chance: The value of a model at chance level; None where it is not known.
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
        """Return the threshold within its range, rounded outwards.

        It has four decimals, or one for counts.
        """
        exact = self._at(self.k, self.reference_models)
        scale = float(10 ** decimals(self.check.unit))
        if self.check.sign > 0:
            rounded = math.floor(exact * scale) / scale
        else:
            rounded = math.ceil(exact * scale) / scale
        low, high = self._range
        return min(max(rounded, low), high)

    def holds(self, value: float) -> bool:
        """Return whether a value is on the good side of the threshold."""
        if self.check.sign > 0:
            return value >= self.threshold
        return value <= self.threshold

    @property
    def minimum_detectable_drop(self) -> float:
        return self.minimum_detectable_drop_with(self.k, self.reference_models)

    def minimum_detectable_drop_with(self, k: float, reference_models: int) -> float:
        """Return the minimum detectable drop with another k and number of reference models.

        A check fails a model that has lost so much with a probability of `POWER`.
        """
        of_loss = self._variance_of_loss
        if of_loss:
            # A group or a sample may have few images that show a loss, so chance affects the loss
            # of a candidate. Of an expected loss L, the variance by chance is at most v L. With e,
            # the deviation of a prediction, L = k e + z sqrt(e^2 + v L).
            error = self.spread * widened(reference_models)
            z = POWER_DEVIATIONS
            middle = k * error + z * z * of_loss / 2
            return middle + math.sqrt(max(middle**2 - (k**2 - z**2) * error**2, 0.0))
        detected = self._at(k + POWER_DEVIATIONS, reference_models)
        return abs(detected - off_scale(self.centre, self.check.scale))

    @property
    def _variance_of_loss(self) -> float:
        """Return the variance by chance of a loss of one unit; 0 if all images show a loss."""
        if self.check.of_loss:
            return self.check.of_loss
        if self.check.metric in OF_ONE_GROUP:
            return 1 / self.check.n
        return 0.0

    def _at(self, deviations: float, reference_models: int) -> float:
        """Return the value this many deviations of a prediction worse than the center."""
        # A prediction interval: mean ± k s sqrt(1 + 1 / K).
        distance = deviations * self.spread * widened(reference_models)
        return off_scale(self.centre - self.check.sign * distance, self.check.scale)

    @property
    def written(self) -> dict[str, int | float]:
        """Return the numbers of the threshold in a checks file, by their keys."""
        digits = decimals(self.check.unit)
        numbers: dict[str, int | float] = {
            "threshold": self.threshold,
            "mean": round(self.mean, digits),
            "std": round(self.std, digits + 1),
        }
        if self.check.scale == "root":
            numbers["root_mean"] = round(self.centre, ROOT_DECIMALS)
            numbers["root_std"] = round(self.spread, ROOT_DECIMALS)
        numbers["k"] = round(self.k, K_DECIMALS)
        numbers["reference_models"] = self.reference_models
        numbers["minimum_detectable_drop"] = round(self.minimum_detectable_drop, digits)
        numbers["n"] = self.check.n
        if self.check.of_loss:
            numbers["of_loss"] = self.check.of_loss
        return numbers

    @property
    def informational(self) -> str:
        """Return the reason why the check is informational, or an empty string."""
        reason = never_judged(self.check.metric) or self.outlier
        if reason:
            return reason
        if not self.shows_spread:
            models = _models_in_words(self.reference_models)
            return f"{models} cannot show how much models differ here; eight can"
        if self.cannot_fail:
            return f"its threshold of {self._as_text(self.threshold)} cannot fail"
        if self.at_chance is not None and self.holds(self.at_chance):
            chance = self._as_text(self.at_chance)
            return f"{AT_CHANCE}, {chance}, keeps its threshold of {self._as_text(self.threshold)}"
        return ""

    def _as_text(self, value: float) -> str:
        if self.check.unit is Unit.IMAGES:
            return self.check.unit.format(value)
        return self.check.unit.format(value, decimals=3)

    @property
    def cannot_fail(self) -> bool:
        """Return whether the threshold is the worst possible value, or beyond it."""
        low, high = self._range
        if self.check.sign > 0:
            return self.threshold <= low
        return self.threshold >= high

    @property
    def shows_spread(self) -> bool:
        """Return whether these models show how much models differ.

        They do by a prior, or because they are enough.
        """
        return self.prior or self.reference_models >= FEW

    @property
    def can_detect(self) -> bool:
        """Return whether a model can lose as much as the minimum detectable drop."""
        return self.minimum_detectable_drop <= largest_loss(self.mean, self._range, self.check.sign)

    @property
    def _range(self) -> tuple[float, float]:
        metric = METRICS.get(self.check.metric)
        if metric is None:
            low, high = self.check.unit.range
        else:
            low, high = metric.range
        if self.check.unit is Unit.IMAGES:
            high = float(self.check.n)
        return low, high


_IN_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven")


def _models_in_words(count: int) -> str:
    """Return a number of reference models below `FEW` as text."""
    if count == 1:
        return "one reference model"
    return f"{_IN_WORDS[count]} reference models"


def largest_loss(mean: float, limits: tuple[float, float], sign: int) -> float:
    """Return how far a value can fall from the mean of reference models.

    >>> largest_loss(0.75, (0.0, 1.0), sign=1), largest_loss(0.75, (0.0, 1.0), sign=-1)
    (0.75, 0.25)

    Args:
        mean: The mean of the reference models.
        limits: The least and the greatest possible value.
        sign: 1 if more is better, and -1 if less is better.
    """
    low, high = limits
    if sign > 0:
        return mean - low
    return high - mean


# Scales of checks, and the least spread on them.


def least_of(values: np.ndarray, checks: Sequence[PanelCheck]) -> np.ndarray:
    """Return the minimum of each check's standard deviation, (checks,).

    `values` of K models are on the scales of the checks, (K, checks).
    """
    means = values.mean(axis=0)
    return np.array(
        [_least_deviation(check, mean) for check, mean in zip(checks, means, strict=True)]
    )


def _least_deviation(check: PanelCheck, mean: float) -> float:
    if check.scale == "root":
        return 1.0
    if check.unit is Unit.IMAGES:
        # A Poisson count varies by its root, and no model can differ by less than an image.
        return max(1.0, math.sqrt(max(mean, 0)))
    if check.unit in SHARES:
        return 1 / check.n
    return 0.01 * abs(mean)


def on_scale(values: np.ndarray, scale: Scale) -> np.ndarray:
    """Return values on a scale: unchanged, or 2 sqrt(x + 3/8) on that of roots.

    >>> import numpy as np
    >>> on_scale(np.array([0.625]), "root")
    array([2.])
    """
    if scale == "plain":
        return values
    # Anscombe (1948), equation 1.1. Counts of rare events are skewed to the right. Their roots are
    # not, and those of Poisson counts have a standard deviation of 1 at any mean.
    return np.asarray(2 * np.sqrt(np.maximum(values, 0) + 3 / 8))


def off_scale(value: float, scale: Scale) -> float:
    """Return the value for a position on the scale, the inverse of `on_scale`.

    For roots, it is at least 0.

    >>> off_scale(2.0, "root")
    0.625
    """
    if scale == "plain":
        return value
    return max((max(value, 0.0) / 2) ** 2 - 3 / 8, 0.0)


def on_scales(values: np.ndarray, checks: Sequence[PanelCheck]) -> np.ndarray:
    """Return the values of checks, (..., checks), each on its own scale."""
    columns = [on_scale(values[..., at], check.scale) for at, check in enumerate(checks)]
    return np.stack(columns, axis=-1)


def widened(reference_models: int) -> float:
    """Return the ratio of the spread of a prediction from K models to that from infinitely many."""
    return math.sqrt(1 + 1 / reference_models)
