"""The decision rule: bounds that a healthy retrain keeps with a known probability, and the loss that they notice.

A bound is the end of a one-sided prediction interval for one more retrain (Hahn & Meeker 1991, section 4.8):
mean - k s sqrt(1 + 1/K) for a floor, with mean and standard deviation s of K retrains measured on the same images. The
healthy retrain fails any gate with a probability of at most 1%: half of it belongs to the clean accuracy alone, the
other half is shared by at most twelve families, and the rows of a family share one k, so that it is the family that
keeps its share and not each row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.calibration.scales import off_scale, on_scale, on_scales
from harness.errors import InputError
from harness.measures import Unit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.calibration.panel import Panel, Row

MIN_RETRAINS = 8
CLEAN = "clean"
CLEAN_SHARE, FAMILIES_SHARE, MAX_FAMILIES = 0.005, 0.005, 12
OUTLIER_SHARE = 0.001
"""How often a panel without an outlier is refused."""
POWER = 0.95
DRAWS = 200_000
"""Of the parametric bootstrap: a family's share is then known to about a tenth of itself."""


_SHARES = (Unit.SHARE, Unit.DIFFERENCE)


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

    @staticmethod
    def of(row: Row, values: np.ndarray, *, k: float, budget: float = math.inf) -> Calibrated:
        """Return the bound of a row by the values of healthy retrains, (K,), with this multiplier."""
        scaled = on_scale(values, row.scale)
        centre, spread = float(scaled.mean()), float(_std(scaled[:, None], (row,))[0])
        std = float(values.std(ddof=1)) if row.scale == "root" else spread
        return Calibrated(row, float(values.mean()), std, centre, spread, k, len(values), budget)

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
        """Return the smallest loss that fails in 95% of retrains, by another multiplier and number of retrains."""
        from scipy.stats import norm

        return abs(self._off_by(k + float(norm.ppf(POWER)), retrains) - off_scale(self.centre, self.row.scale))

    def _off_by(self, deviations: float, retrains: int) -> float:
        """Return the value that lies so many standard deviations of prediction on the bad side of the centre."""
        away = deviations * self.spread * _widened(retrains)
        return off_scale(self.centre - self.row.sign * away, self.row.scale)

    @property
    def not_gated(self) -> str:
        """Return why the row cannot be a gate, or an empty string."""
        if self.detects > self.budget:
            loss, budget = self._number(self.detects), self._number(self.budget)
            return f"healthy retrains differ so much that only a loss of {loss} is noticed, over the budget of {budget}"
        low, high = self._range
        if self.bound <= low if self.row.sign > 0 else self.bound >= high:
            return f"its bound of {self._number(self.bound)} cannot fail"
        return ""

    @property
    def _range(self) -> tuple[float, float]:
        low, high = self.row.unit.range
        return low, float(self.row.n) if self.row.unit is Unit.IMAGES else high

    def _number(self, value: float) -> str:
        return self.row.unit.format(value, decimals=None if self.row.unit is Unit.IMAGES else 3)


def calibrate(panel: Panel, budgets: Mapping[str, float], *, by_hand: frozenset[str] = frozenset()) -> list[Calibrated]:
    """Return a bound for each row of the panel; raises `InputError` for a panel that can give none.

    `budgets` gives the largest loss that may go unnoticed, by metric or family; else see `default_budget`. Rows whose
    bound is set `by_hand`, and rows that cannot be gates, take no part in their family's share of false alarms.
    """
    check_panel(panel)
    calibrated: dict[str, Calibrated] = {}
    for family in panel.families:
        rows = panel.family(family)
        for item in _bounds(panel, rows, rows, budgets):
            calibrated[item.row.id] = item
        gates = tuple(row for row in rows if not calibrated[row.id].not_gated and row.id not in by_hand)
        if gates and len(gates) < len(rows):
            for item in _bounds(panel, tuple(row for row in rows if not calibrated[row.id].not_gated), gates, budgets):
                calibrated[item.row.id] = item
    return [calibrated[row.id] for row in panel.rows]


def _bounds(
    panel: Panel, rows: tuple[Row, ...], sharing: tuple[Row, ...], budgets: Mapping[str, float]
) -> list[Calibrated]:
    values = panel.values(rows)
    k = family_multiplier(panel, sharing, retrains=len(values))
    return [
        Calibrated.of(row, column, k=k, budget=_budget(row, float(column.mean()), budgets))
        for row, column in zip(rows, values.T, strict=True)
    ]


def check_panel(panel: Panel) -> None:
    """Raise `InputError` for a panel that is too small, has an outlier, or more families than may share the 1%."""
    count = len(panel.members)
    if count < MIN_RETRAINS:
        raise InputError(
            f"a panel of {count} retrains is too small for floors: at least {MIN_RETRAINS}, better 20, are needed; "
            "train more seeds"
        )
    if len(families := set(panel.families) - {CLEAN}) > MAX_FAMILIES:
        raise InputError(
            f"{len(families)} families besides {CLEAN!r} share the probability of a false alarm, "
            f"at most {MAX_FAMILIES} may: {', '.join(sorted(families))}; merge some"
        )
    if found := outliers(panel):
        raise InputError(
            "the panel is not one of healthy retrains: " + "; ".join(found) + "; leave them out or train them anew"
        )


def outliers(panel: Panel) -> list[str]:
    """Name the members that the others' spread cannot explain, each with its most telling row.

    Each member is held against the rest: the studentised deviation of each row (two-sided t with K - 2 degrees of
    freedom, Bonferroni over members and rows) is beyond what 0.1% of healthy panels reach.
    """
    from scipy.stats import t

    values = panel.values(panel.rows)
    scaled, count = on_scales(values, panel.rows), len(values)
    limit = t.isf(OUTLIER_SHARE / 2 / values.size, count - 2)
    found = []
    for position, member in enumerate(panel.members):
        rest, others = np.delete(values, position, axis=0), np.delete(scaled, position, axis=0)
        deviations = (scaled[position] - others.mean(axis=0)) / _std(others, panel.rows) / _widened(count - 1)
        worst = int(np.abs(deviations).argmax())
        if abs(deviations[worst]) > limit:
            found.append(
                f"{member.path} has {panel.rows[worst].id} {values[position, worst]:.4g}, the others "
                f"{rest[:, worst].mean():.4g} ± {rest[:, worst].std(ddof=1):.2g}"
            )
    return found


def false_alarms(panel: Panel, calibrated: list[Calibrated]) -> list[str]:
    """Hold each member against bounds made from the others; name those that fail a gate, with the rows.

    Rows that are not gated are left out.
    """
    gated = {item.row.id for item in calibrated if not item.not_gated}
    alarms: dict[str, list[str]] = {}
    for family in panel.families:
        rows = tuple(row for row in panel.family(family) if row.id in gated)
        if not rows:
            continue
        k = family_multiplier(panel, rows, retrains=len(panel.members) - 1)
        values = panel.values(rows)
        for position, member in enumerate(panel.members):
            rest = np.delete(values, position, axis=0)
            for row, value, column in zip(rows, values[position], rest.T, strict=True):
                if not _holds(Calibrated.of(row, column, k=k), value):
                    alarms.setdefault(member.path, []).append(row.id)
    return [f"{path}: {', '.join(ids)}" for path, ids in alarms.items()]


def _holds(item: Calibrated, value: float) -> bool:
    return value >= item.bound if item.row.sign > 0 else value <= item.bound


def family_multiplier(panel: Panel, rows: tuple[Row, ...], *, retrains: int, draws: int = DRAWS) -> float:
    """Return the k that these rows of one family share, for bounds from `retrains` networks."""
    share = CLEAN_SHARE if rows[0].family == CLEAN else FAMILIES_SHARE / MAX_FAMILIES
    values = on_scales(panel.values(rows), rows) * [row.sign for row in rows]
    return multiplier(correlation(values), share=share, retrains=retrains, draws=draws)


def multiplier(correlations: np.ndarray, *, share: float, retrains: int, draws: int = DRAWS, seed: int = 0) -> float:
    """Return the k with which one more retrain misses any of R bounds with probability `share`.

    For one row that is Student's t quantile with K - 1 degrees of freedom. For more, a parametric bootstrap draws
    panels and one more retrain from the normal distribution with these correlations, (R, R), and takes the quantile of
    the largest deviation.
    """
    from scipy.stats import t

    if len(correlations) == 1:
        return float(t.isf(share, retrains - 1))
    rng = np.random.default_rng(seed)
    # Not Cholesky's root: correlations may be singular.
    variances, directions = np.linalg.eigh(correlations)
    root = (directions * np.sqrt(np.maximum(variances, 0))).astype(np.float32)
    largest = []
    batch = max(1, 4_000_000 // ((retrains + 1) * len(root)))
    for start in range(0, draws, batch):
        size = min(batch, draws - start)
        values = rng.standard_normal((size, retrains + 1, len(root)), dtype=np.float32) @ root.T
        panels, retrain = values[:, :-1], values[:, -1]
        largest.append(((panels.mean(axis=1) - retrain) / panels.std(axis=1, ddof=1)).max(axis=1))
    return float(np.quantile(np.concatenate(largest), 1 - share) / _widened(retrains))


def correlation(values: np.ndarray) -> np.ndarray:
    """Return the correlations of the columns, (rows, rows), shrunk towards none (Ledoit & Wolf 2004).

    A few members cannot show how many rows are correlated; taking what they show as it is would understate how many
    chances a family has to fail. A constant column is taken as correlated with none.
    """
    from sklearn.covariance import ledoit_wolf

    spread = values.std(axis=0)
    varying = spread > 1e-9 * np.maximum(np.abs(values).max(axis=0), 1)  # Equal values have a spread of rounding.
    result = np.eye(values.shape[1])
    if varying.sum() > 1:
        standardised = (values[:, varying] - values[:, varying].mean(axis=0)) / spread[varying]
        shrunk, _ = ledoit_wolf(standardised, assume_centered=True)
        scale = np.sqrt(np.diag(shrunk))
        result[np.ix_(varying, varying)] = shrunk / np.outer(scale, scale)
    return result


def _budget(row: Row, mean: float, budgets: Mapping[str, float]) -> float:
    return budgets.get(row.metric, budgets.get(row.family, default_budget(row, mean)))


def default_budget(row: Row, mean: float) -> float:
    """Return the largest loss that may go unnoticed where the gates file names none.

    Five points of a share; for a count a doubling, or half a percent of the images if that is more; for a severity or
    a factor a fifth.
    """
    if row.unit is Unit.IMAGES:
        return max(mean, 0.005 * row.n)
    return 0.05 if row.unit in _SHARES else 0.2 * mean


def _widened(retrains: int) -> float:
    """Return by how much predicting from K networks, not from infinitely many, widens the spread."""
    return math.sqrt(1 + 1 / retrains)


def _std(values: np.ndarray, rows: tuple[Row, ...]) -> np.ndarray:
    """Return each row's standard deviation, of values on its scale, at least the least that `Calibrated` names."""

    def least(row: Row, mean: float) -> float:
        if row.scale == "root":
            return 1.0
        if row.unit is Unit.IMAGES:
            return max(1.0, math.sqrt(max(mean, 0)))
        return 1 / row.n if row.unit in _SHARES else 0.01 * mean

    smallest = [least(row, mean) for row, mean in zip(rows, values.mean(axis=0), strict=True)]
    return np.asarray(np.maximum(values.std(axis=0, ddof=1), smallest))
