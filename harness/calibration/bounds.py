"""The decision rule: bounds that a healthy retrain keeps with a known probability, and the loss that they notice.

A bound is the end of a one-sided prediction interval for one more retrain (Hahn & Meeker 1991, section 4.8):
mean - k s sqrt(1 + 1/K) for a floor, with mean and standard deviation s of K retrains measured on the same images. The
healthy retrain fails any gate with a probability of at most 1%: half of it belongs to the clean accuracy alone, each
other family has an equal part of the other half, a twelfth if there are no more families than that, and the rows of a
family share it, so that it is the family that keeps its part and not each row: `reach` says how. A new family moves no
other's bounds, and from the thirteenth on by less than a hundredth.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from harness.calibration.checking import check_panel
from harness.calibration.moderated import FEW
from harness.calibration.multipliers import DRAWS, widened
from harness.calibration.reach import PROVISIONAL, SHARES, least_of, multipliers_of, reaches, spread_of, std_of
from harness.calibration.scales import off_scale, on_scale
from harness.measures import METRICS, Unit
from harness.measures.panel.consensus import LOST_OF_A_CLASS
from harness.measures.slices import GROUP_ACCURACY, OF_GROUPS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.calibration.panel import Panel, Row

POWER = 0.95
_POWER_DEVIATIONS = NormalDist().inv_cdf(POWER)


@dataclass(frozen=True)
class Calibrated:
    """A row's bound and its provenance, in the unit of the metric.

    `mean` and `std` say what healthy retrains reach, and how far they are apart; `centre` and `spread` say so on the
    row's scale, where `spread` is the standard deviation that counts: at least one image, for a count at least the
    square root of the mean, for a severity at least 1% of the mean. `detects` is the smallest loss that fails with 95%
    power, `budget` the largest that may go unnoticed.
    """

    row: Row
    mean: float
    std: float
    centre: float
    spread: float
    k: float
    retrains: int
    budget: float
    prior: bool = False
    """Whether the spread rests on more than the values of these retrains."""

    @staticmethod
    def of(
        row: Row,
        values: np.ndarray,
        *,
        k: float,
        spread: float | None = None,
        prior: bool = False,
        budget: float = math.inf,
    ) -> Calibrated:
        """Return the bound of a row by the values of healthy retrains, (K,), with this multiplier.

        `spread` is their standard deviation on the row's scale, if it is not to be their own; a `prior` may be behind.
        """
        scaled = on_scale(values, row.scale)
        centre = float(scaled.mean())
        spread = float(_std(scaled[:, None], (row,))[0]) if spread is None else spread
        std = spread
        if row.scale == "root":
            around = [off_scale(centre + side * spread, "root") for side in (-1, 1)]
            std = (around[1] - around[0]) / 2 if prior else float(values.std(ddof=1))
        return Calibrated(row, float(values.mean()), std, centre, spread, k, len(values), budget, prior)

    @property
    def bound(self) -> float:
        """Return the floor or ceiling, rounded outwards to four decimals, for counts to one, within its range."""
        exact = self._off_by(self.k, self.retrains)
        scale = 10 if self.row.unit is Unit.IMAGES else 10_000
        rounded = (math.floor if self.row.sign > 0 else math.ceil)(exact * scale) / scale
        low, high = self._range
        return min(max(rounded, low), high)

    @property
    def detects(self) -> float:
        """Return the smallest loss that fails in 95% of retrains."""
        return self.detects_with(self.k, self.retrains)

    def detects_with(self, k: float, retrains: int) -> float:
        """Return the smallest loss that fails in 95% of retrains, by another multiplier and number of retrains.

        Of a group's images, which may be few, it is what each image loses by chance: a candidate that is to lose L of
        them loses L ± sqrt(L / n) at most. So L = k e + z sqrt(e^2 + L / n), with e the deviation of prediction.
        """
        if self.row.metric == GROUP_ACCURACY.name:
            error, z, n = self.spread * widened(retrains), _POWER_DEVIATIONS, self.row.n
            middle = k * error + z * z / (2 * n)
            return middle + math.sqrt(max(middle**2 - (k**2 - z**2) * error**2, 0.0))
        return abs(self._off_by(k + _POWER_DEVIATIONS, retrains) - off_scale(self.centre, self.row.scale))

    def _off_by(self, deviations: float, retrains: int) -> float:
        """Return the value that lies so many standard deviations of prediction on the bad side of the centre."""
        away = deviations * self.spread * widened(retrains)
        return off_scale(self.centre - self.row.sign * away, self.row.scale)

    @property
    def not_gated(self) -> str:
        """Return why the row cannot be a gate, or an empty string."""
        if not self.prior and self.retrains < FEW:
            return (
                f"how far retrained reference models differ here cannot be known from {self.retrains}: their answers, "
                f"image by image, do not tell or contradict it; {FEW} can"
            )
        if self.detects > self.budget:
            loss, budget = self._number(self.detects), self._number(self.budget)
            if self.row.metric == GROUP_ACCURACY.name:
                return (
                    f"{self.row.n} images are too few, as retrains differ: the smallest loss detected with 95% power "
                    f"is {loss}, over the budget of {budget}"
                )
            return f"retrains differ so much that the smallest loss detected is {loss}, over the budget of {budget}"
        low, high = self._range
        if self.bound <= low if self.row.sign > 0 else self.bound >= high:
            return f"its bound of {self._number(self.bound)} cannot fail"
        return ""

    @property
    def _range(self) -> tuple[float, float]:
        known = METRICS.get(self.row.metric)
        low, high = known.range if known else self.row.unit.range
        return low, float(self.row.n) if self.row.unit is Unit.IMAGES else high

    def _number(self, value: float) -> str:
        return self.row.unit.format(value, decimals=None if self.row.unit is Unit.IMAGES else 3)


def calibrate(panel: Panel, budgets: Mapping[str, float], *, by_hand: frozenset[str] = frozenset()) -> list[Calibrated]:
    """Return a bound for each row of the panel; raises `InputError` for a panel that can give none.

    `budgets` gives the largest loss that may go unnoticed, by metric or family; else see `default_budget`. Rows whose
    bound is set `by_hand`, and rows that cannot be gates, take no part in their family's share of false alarms.
    """
    check_panel(panel)
    return bounds_of(panel, budgets, by_hand=by_hand)


def bounds_of(
    panel: Panel,
    budgets: Mapping[str, float],
    *,
    by_hand: frozenset[str] = frozenset(),
    retrains: int | None = None,
    draws: int = DRAWS,
) -> list[Calibrated]:
    """Return what `calibrate` does, of a panel that is known to be of healthy retrains.

    `retrains` asks for bounds from another number of networks that spread as these do.
    """
    calibrated = {
        item.row.id: item
        for family in panel.families
        for item in family_bounds(panel, panel.family(family), budgets, by_hand=by_hand, retrains=retrains, draws=draws)
    }
    return [calibrated[row.id] for row in panel.rows]


def family_bounds(
    panel: Panel,
    rows: tuple[Row, ...],
    budgets: Mapping[str, float],
    *,
    by_hand: frozenset[str] = frozenset(),
    retrains: int | None = None,
    draws: int = DRAWS,
) -> list[Calibrated]:
    """Return what `bounds_of` does for the rows of one family of the panel."""
    values = panel.values(rows)
    found, count = spread_of(panel, rows, values), retrains or len(values)
    unshared = [
        replace(
            Calibrated.of(row, column, k=0.0, spread=float(std), prior=prior, budget=budget_of(row, column, budgets)),
            retrains=count,
        )
        for row, column, std, prior in zip(
            rows, values.T, std_of(found, values, rows), (found.worth > 0).tolist(), strict=True
        )
    ]
    # Of what one or two networks tell nothing of, a plan for more can say nothing.
    candidates = {
        item.row.id for item in unshared if item.row.id not in by_hand and (item.prior or len(values) >= PROVISIONAL)
    }

    def shared_by(sharing: tuple[Row, ...]) -> list[Calibrated]:
        ks = multipliers_of(panel, rows, sharing, found, retrains=count, draws=draws)
        return [replace(item, k=float(k)) for item, k in zip(unshared, ks, strict=True)]

    def gates(items: list[Calibrated]) -> tuple[Row, ...]:
        return tuple(item.row for item in items if item.row.id in candidates and not item.not_gated)

    items = shared_by(rows)
    if not any(item.prior for item in items):
        if not 0 < len(sharing := gates(items)) < len(rows):
            return items
        again = shared_by(sharing)
        return [old if old.not_gated else new for old, new in zip(items, again, strict=True)]
    # Each row has a t distribution of its own here, and the fewer share the family's part, the more of them can gate.
    alone = shared_by(rows[:1])
    ease = {item.row.id: item.detects / item.budget for item in alone}
    able = tuple(sorted(gates(alone), key=lambda row: ease[row.id]))

    def spent(few: int) -> bool:
        """Return whether no row gates but so many, those to which gating comes easiest, when these share."""
        return set(gates(shared_by(able[:few]))) <= set(able[:few])

    return shared_by(able[: bisect_left(range(1, len(able)), 1, key=spent) + 1]) if able else items


def false_alarms(panel: Panel, calibrated: list[Calibrated]) -> list[str]:
    """Hold each member against bounds made from the others; name those that fail a gate, with the rows.

    Rows that are not gated are left out.
    """
    gated = {item.row.id for item in calibrated if not item.not_gated}
    alarms: dict[str, list[str]] = {}
    if len(panel.members) < PROVISIONAL:
        return []
    for family in panel.families:
        rows = tuple(row for row in panel.family(family) if row.id in gated)
        if not rows:
            continue
        values = panel.values(rows)
        for position, member in enumerate(panel.members):
            rest = np.delete(values, position, axis=0)
            reached = reaches(panel, rows, rows, rest)
            for row, value, column, reach in zip(rows, values[position], rest.T, reached, strict=True):
                if not _holds(Calibrated.of(row, column, **vars(reach)), value):
                    alarms.setdefault(member.path, []).append(row.id)
    return [f"{path}: {', '.join(ids)}" for path, ids in alarms.items()]


def _holds(item: Calibrated, value: float) -> bool:
    return value >= item.bound if item.row.sign > 0 else value <= item.bound


def budget_of(row: Row, values: np.ndarray, budgets: Mapping[str, float]) -> float:
    """Return the largest loss that may go unnoticed in a row, by its values of healthy retrains, (K,)."""
    mean = float(values.mean())
    return budgets.get(row.metric, budgets.get(row.family, default_budget(row, mean)))


def default_budget(row: Row, mean: float) -> float:
    """Return the largest loss that may go unnoticed where the gates file names none.

    Five points of a share, ten where groups of images are compared, which are small; for a count a doubling, or half a
    percent of the images if that is more, for one of rare things a percent, for what one class of many loses half of a
    class; for a severity or a factor a fifth.
    """
    if row.metric == LOST_OF_A_CLASS.name:
        return 0.5 * row.n
    if row.unit is Unit.IMAGES:
        return max(mean, (0.01 if row.scale == "root" else 0.005) * row.n)
    if row.metric in OF_GROUPS:
        return 0.1
    return 0.05 if row.unit in SHARES else 0.2 * mean


def _std(values: np.ndarray, rows: Sequence[Row]) -> np.ndarray:
    """Return each row's standard deviation, of values on its scale, at least the least that `Calibrated` names."""
    return np.asarray(np.maximum(values.std(axis=0, ddof=1), least_of(values, rows)))
