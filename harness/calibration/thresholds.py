"""Decision rule: thresholds that a reference model keeps with a known probability, and the loss that they detect.

A threshold is the end of a one-sided prediction interval for one more reference model (Hahn & Meeker 1991, section
4.8). For a minimum it is mean - k s sqrt(1 + 1/K), with mean and standard deviation s of K models on the same images.
`moderated_variance` says how s borrows strength where K is small.

A reference model fails any check with a probability of at most `ALARMS`. Half of it belongs to the clean accuracy. The
other families have equal parts of the other half, `PARTS` of them if there are no more families, so a new family
changes no other threshold by more than a hundredth. The checks of a family share its part; `multiplicity` computes k.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from harness.calibration.moderated_variance import moderated
from harness.calibration.multiplicity import DRAWS, correlation, multiplier, widened
from harness.measures import METRICS, Unit
from harness.measures.panel.consensus import WORST_CLASS_CONSENSUS_SET_ERRORS
from harness.measures.slices import GROUP_ACCURACY, OF_GROUPS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.calibration.moderated_variance import Moderated
    from harness.calibration.panel import Panel, PanelCheck
    from harness.measures.metric import Scale

ALARMS, PARTS = 0.01, 12
"""Probability that a reference model fails any check, and the parts of one half of it.

`benchmarks.detection.shares` compares other divisions."""
CLEAN = "clean"
"""Family with the other half."""
POWER = 0.95
"""Probability that a check fails a model with its minimum detectable drop."""
PROVISIONAL = 3
"""Reference models from which thresholds are no longer provisional: two may be as unlike the third as one is."""
FEW = 8
"""Reference models whose own spread makes a threshold; with fewer, a check needs a prior."""
SHARES = (Unit.SHARE, Unit.DIFFERENCE)
_POWER_DEVIATIONS = NormalDist().inv_cdf(POWER)


@dataclass(frozen=True)
class Calibrated:
    """Threshold of a check with its provenance, in the unit of the metric.

    `mean` and `std` describe the reference models. `centre` and `spread` do so on the check's scale, where `spread` is
    the standard deviation that counts: at least one image, for a count at least the square root of the mean, for a
    severity at least 1% of the mean. `minimum_detectable_drop` is the smallest loss that fails with 95% power, `budget`
    the largest that may go unnoticed.
    """

    check: PanelCheck
    mean: float
    std: float
    centre: float
    spread: float
    k: float
    reference_models: int
    budget: float
    prior: bool = False
    """Whether the spread rests on more than the values of these models."""

    @staticmethod
    def of(
        check: PanelCheck,
        values: np.ndarray,
        *,
        k: float,
        spread: float | None = None,
        prior: bool = False,
        budget: float = math.inf,
        reference_models: int | None = None,
    ) -> Calibrated:
        """Return the threshold of a check by the values of K reference models, (K,), with this multiplier.

        `spread` is the standard deviation on the check's scale, by default that of the values. `reference_models`
        predicts for another number of models.
        """
        scaled = on_scale(values, check.scale)
        centre = float(scaled.mean())
        if spread is None:
            spread = float(np.maximum(scaled.std(ddof=1), least_of(scaled[:, None], (check,))[0]))
        std = spread
        if check.scale == "root":
            around = [off_scale(centre + side * spread, "root") for side in (-1, 1)]
            std = (around[1] - around[0]) / 2 if prior else float(values.std(ddof=1))
        return Calibrated(
            check, float(values.mean()), std, centre, spread, k, reference_models or len(values), budget, prior
        )

    @property
    def threshold(self) -> float:
        """Return the threshold within its range, rounded outwards to four decimals, for counts to one."""
        exact = self._off_by(self.k, self.reference_models)
        scale = 10 if self.check.unit is Unit.IMAGES else 10_000
        rounded = (math.floor if self.check.sign > 0 else math.ceil)(exact * scale) / scale
        low, high = self._range
        return min(max(rounded, low), high)

    def holds(self, value: float) -> bool:
        """Return whether a value is on the good side of the threshold."""
        return value >= self.threshold if self.check.sign > 0 else value <= self.threshold

    @property
    def minimum_detectable_drop(self) -> float:
        """Return the minimum detectable drop, with 95% power."""
        return self.minimum_detectable_drop_with(self.k, self.reference_models)

    def minimum_detectable_drop_with(self, k: float, reference_models: int) -> float:
        """Return the minimum detectable drop with another multiplier and number of reference models.

        A group may have few images, so chance decides which of them a candidate loses: for an expected loss of L it
        loses L ± sqrt(L / n) at most. So L = k e + z sqrt(e^2 + L / n), with the deviation of prediction e.
        """
        if self.check.metric == GROUP_ACCURACY.name:
            error, z, n = self.spread * widened(reference_models), _POWER_DEVIATIONS, self.check.n
            middle = k * error + z * z / (2 * n)
            return middle + math.sqrt(max(middle**2 - (k**2 - z**2) * error**2, 0.0))
        return abs(self._off_by(k + _POWER_DEVIATIONS, reference_models) - off_scale(self.centre, self.check.scale))

    def _off_by(self, deviations: float, reference_models: int) -> float:
        """Return the value at so many standard deviations of prediction on the bad side of the centre."""
        away = deviations * self.spread * widened(reference_models)
        return off_scale(self.centre - self.check.sign * away, self.check.scale)

    @property
    def informational(self) -> str:
        """Return the reason why the check is informational, or an empty string."""
        if not self.prior and self.reference_models < FEW:
            return (
                f"how far reference models differ here cannot be known from {self.reference_models}: their answers, "
                f"image by image, do not tell or contradict it; {FEW} can"
            )
        if self.minimum_detectable_drop > self.budget:
            loss, budget = self._number(self.minimum_detectable_drop), self._number(self.budget)
            if self.check.metric == GROUP_ACCURACY.name:
                return (
                    f"{self.check.n} images are too few, as reference models differ: the smallest loss detected "
                    f"with 95% power is {loss}, over the budget of {budget}"
                )
            return (
                f"reference models differ so much that the smallest loss detected is {loss}, over the budget of "
                f"{budget}"
            )
        low, high = self._range
        if self.threshold <= low if self.check.sign > 0 else self.threshold >= high:
            return f"its threshold of {self._number(self.threshold)} cannot fail"
        return ""

    @property
    def _range(self) -> tuple[float, float]:
        known = METRICS.get(self.check.metric)
        low, high = known.range if known else self.check.unit.range
        return low, float(self.check.n) if self.check.unit is Unit.IMAGES else high

    def _number(self, value: float) -> str:
        return self.check.unit.format(value, decimals=None if self.check.unit is Unit.IMAGES else 3)


# The sharing of false alarms.


def thresholds_of(
    panel: Panel,
    budgets: Mapping[str, float],
    *,
    by_hand: frozenset[str] = frozenset(),
    reference_models: int | None = None,
    draws: int = DRAWS,
) -> list[Calibrated]:
    """Return a threshold for each check of the panel, in its order.

    `budgets` gives the largest loss that may go unnoticed, by metric or family; else see `default_budget`. Checks with
    a threshold `by_hand` and informational ones take no part in their family's share of false alarms.
    `reference_models` predicts for another number of models that spread as these do.
    """
    calibrated = {
        item.check.id: item
        for family in panel.families
        for item in family_thresholds(
            panel, panel.family(family), budgets, by_hand=by_hand, reference_models=reference_models, draws=draws
        )
    }
    return [calibrated[check.id] for check in panel.checks]


def family_thresholds(
    panel: Panel,
    checks: tuple[PanelCheck, ...],
    budgets: Mapping[str, float],
    *,
    by_hand: frozenset[str] = frozenset(),
    reference_models: int | None = None,
    draws: int = DRAWS,
) -> list[Calibrated]:
    """Return the thresholds of `thresholds_of` for the checks of one family."""
    values = panel.values(checks)

    def shared_by(sharing: tuple[PanelCheck, ...]) -> list[Calibrated]:
        return shared_thresholds(
            panel, checks, sharing, values, budgets=budgets, reference_models=reference_models, draws=draws
        )

    def with_threshold(items: list[Calibrated]) -> tuple[PanelCheck, ...]:
        # One or two models without a prior say nothing, whatever number a plan asks for.
        return tuple(
            item.check
            for item in items
            if item.check.id not in by_hand and (item.prior or len(values) >= PROVISIONAL) and not item.informational
        )

    items = shared_by(checks)
    if not any(item.prior for item in items):
        if not 0 < len(sharing := with_threshold(items)) < len(checks):
            return items
        again = shared_by(sharing)
        return [old if old.informational else new for old, new in zip(items, again, strict=True)]
    # Each check has a t distribution of its own here. The fewer share the family's part, the more of them have power.
    alone = shared_by(checks[:1])
    ease = {item.check.id: item.minimum_detectable_drop / item.budget for item in alone}
    able = tuple(sorted(with_threshold(alone), key=lambda check: ease[check.id]))

    def spent(few: int) -> bool:
        """Return whether only these few checks, the most powerful ones, have power when they share."""
        return set(with_threshold(shared_by(able[:few]))) <= set(able[:few])

    return shared_by(able[: bisect_left(range(1, len(able)), 1, key=spent) + 1]) if able else items


def shared_thresholds(
    panel: Panel,
    checks: tuple[PanelCheck, ...],
    sharing: tuple[PanelCheck, ...],
    values: np.ndarray,
    *,
    budgets: Mapping[str, float],
    reference_models: int | None = None,
    draws: int = DRAWS,
) -> list[Calibrated]:
    """Return thresholds for the checks of one family by the values of K models, (K, checks).

    The checks `sharing` divide the family's part of false alarms, so that each has the same part. Without a prior they
    have one multiplier; else each has a t distribution of its own. `reference_models` is as in `thresholds_of`.
    """
    found, count = spread_of(panel, checks, values), reference_models or len(values)
    share = share_of(checks[0].family, panel.families)
    if count >= FEW and not found.worth.any():
        signed = on_scales(panel.values(sharing), sharing) * [check.sign for check in sharing]
        ks = np.full(len(checks), multiplier(correlation(signed), share=share, reference_models=count, draws=draws))
    else:
        among = {check.id for check in sharing}
        ks = found.multipliers(share, count, [at for at, check in enumerate(checks) if check.id in among])
    spreads = std_of(found, values, checks)
    return [
        Calibrated.of(
            check,
            column,
            k=float(k),
            spread=float(spread),
            prior=bool(worth > 0),
            budget=budget_of(check, column, budgets),
            reference_models=count,
        )
        for check, column, k, spread, worth in zip(checks, values.T, ks, spreads, found.worth, strict=True)
    ]


def share_of(family: str, families: Sequence[str]) -> float:
    """Return the probability with which a reference model may fail a family, one of these."""
    others = len(set(families) - {CLEAN})
    return ALARMS / 2 if family == CLEAN else ALARMS / 2 / max(PARTS, others)


# The loss that may go unnoticed.


def budget_of(check: PanelCheck, values: np.ndarray, budgets: Mapping[str, float]) -> float:
    """Return the largest loss of a check that may go unnoticed, by its values of reference models, (K,)."""
    mean = float(values.mean())
    return budgets.get(check.metric, budgets.get(check.family, default_budget(check, mean)))


def default_budget(check: PanelCheck, mean: float) -> float:
    """Return the largest loss that may go unnoticed where the checks file names none.

    It is five points of a share, ten for groups of images, which are small. A count may double, or grow by half a
    percent of the images if that is more; for rare things it is one percent, and for one class of many half of a class.
    A severity or a factor may lose a fifth.
    """
    if check.metric == WORST_CLASS_CONSENSUS_SET_ERRORS.name:
        return 0.5 * check.n
    if check.unit is Unit.IMAGES:
        return max(mean, (0.01 if check.scale == "root" else 0.005) * check.n)
    if check.metric in OF_GROUPS:
        return 0.1
    return 0.05 if check.unit in SHARES else 0.2 * mean


# The spread of reference models.


def spread_of(panel: Panel, checks: Sequence[PanelCheck], values: np.ndarray) -> Moderated:
    """Return the moderated variances of checks by the values of K models, (K, checks), on the checks' scales.

    The variance by chance serves as a prior where it is known well enough.
    """
    scaled, means = on_scales(values, checks), values.mean(axis=0)
    chance, loss = np.full(len(checks), np.nan), np.zeros(len(checks))
    for at, (check, mean) in enumerate(zip(checks, means, strict=True)):
        known = panel.chance.get(check.id)
        if check.scale == "root":
            # An image lost in one view is often lost in another: where it counts twice, chance knows too little.
            if known and known.answers:
                chance[at] = known.variance / (mean + 3 / 8)
            elif not known and len(values) < FEW:
                chance[at] = 1.0  # Of Poisson's counts.
        elif known and (known.answers or len(values) >= PROVISIONAL):
            chance[at] = known.variance
            loss[at] = max(check.sign * (known.rest - mean), 0.0) if known.rest is not None else 0.0
    return moderated(scaled, chance, loss)


def std_of(found: Moderated, values: np.ndarray, checks: Sequence[PanelCheck]) -> np.ndarray:
    """Return the standard deviation that counts of each check, (checks,), on its scale."""
    return np.asarray(np.maximum(np.sqrt(found.variance), least_of(on_scales(values, checks), checks)))


def least_of(values: np.ndarray, checks: Sequence[PanelCheck]) -> np.ndarray:
    """Return the least standard deviation that counts of each check, (checks,), by values on its scale, (K, checks)."""

    def least(check: PanelCheck, mean: float) -> float:
        if check.scale == "root":
            return 1.0
        if check.unit is Unit.IMAGES:
            return max(1.0, math.sqrt(max(mean, 0)))
        return 1 / check.n if check.unit in SHARES else 0.01 * mean

    return np.array([least(check, mean) for check, mean in zip(checks, values.mean(axis=0), strict=True)])


def on_scale(values: np.ndarray, scale: Scale) -> np.ndarray:
    """Return values on a scale: themselves, or 2 sqrt(x + 3/8) on that of roots (Anscombe 1948, equation 1.1).

    Counts of rare things are skewed to the right. Their roots are not, and those of Poisson counts have a standard
    deviation of 1 whatever the mean.
    """
    return 2 * np.sqrt(np.maximum(values, 0) + 3 / 8) if scale == "root" else values


def off_scale(value: float, scale: Scale) -> float:
    """Return the value at this place of the scale; on that of roots the least is 0."""
    return max((max(value, 0.0) / 2) ** 2 - 3 / 8, 0.0) if scale == "root" else value


def on_scales(values: np.ndarray, checks: Sequence[PanelCheck]) -> np.ndarray:
    """Return the values of checks, (..., checks), each on its own scale."""
    return np.stack([on_scale(values[..., at], check.scale) for at, check in enumerate(checks)], axis=-1)
