"""The decision rule: bounds that a healthy retrain keeps with a known probability, and the loss that they notice.

A bound is the end of a one-sided prediction interval for one more retrain (Hahn & Meeker 1991, section 4.8):
mean - k s sqrt(1 + 1/K) for a floor, with mean and standard deviation s of K retrains measured on the same images. The
healthy retrain fails any gate with a probability of at most 1%: half of it belongs to the clean accuracy alone, each
other family has an equal part of the other half, a twelfth if there are no more families than that, and the rows of a
family share one k, so that it is the family that keeps its part and not each row. A new family moves no other's bounds,
and from the thirteenth on by less than a hundredth.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.calibration.moderated import moderated
from harness.calibration.scales import off_scale, on_scale, on_scales
from harness.errors import InputError
from harness.measures import Unit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.calibration.moderated import Moderated
    from harness.calibration.panel import Panel, Row

FEW = 8
"""Retrains from which on their own spread makes a gate; with fewer a row needs a prior, see `moderated`."""
PROVISIONAL = 3
"""Retrains from which on bounds are no longer provisional: two may be as unlike the third as one is."""
ALARMS, PARTS = 0.01, 12
"""How often a healthy retrain may fail any gate, and the parts of one half of it if families are no more.

Other ways to divide it are compared in `benchmarks.detection.shares`."""
CLEAN = "clean"
"""The family that has the other half."""
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
        if not self.prior and self.retrains < FEW:
            return (
                f"how far healthy retrains differ here cannot be known from {self.retrains}: their answers, image by "
                f"image, do not tell or contradict it; {FEW} can"
            )
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
    return bounds_of(panel, budgets, by_hand=by_hand)


def bounds_of(panel: Panel, budgets: Mapping[str, float], *, by_hand: frozenset[str] = frozenset()) -> list[Calibrated]:
    """Return what `calibrate` does, of a panel that is known to be of healthy retrains."""
    calibrated: dict[str, Calibrated] = {}
    for family in panel.families:
        rows = panel.family(family)
        for item in _bounds(panel, rows, rows, budgets):
            calibrated[item.row.id] = item
        if panel.chance:  # Fewer rows that share let more of them gate; the second time counts these in.
            for _ in range(2):
                gates = tuple(row for row in rows if not calibrated[row.id].not_gated and row.id not in by_hand)
                calibrated |= {item.row.id: item for item in _bounds(panel, rows, gates or rows, budgets)}
            continue
        gates = tuple(row for row in rows if not calibrated[row.id].not_gated and row.id not in by_hand)
        if gates and len(gates) < len(rows):
            for item in _bounds(panel, tuple(row for row in rows if not calibrated[row.id].not_gated), gates, budgets):
                calibrated[item.row.id] = item
    return [calibrated[row.id] for row in panel.rows]


def _bounds(
    panel: Panel, rows: tuple[Row, ...], sharing: tuple[Row, ...], budgets: Mapping[str, float]
) -> list[Calibrated]:
    values = panel.values(rows)
    return [
        Calibrated.of(row, column, **asdict(reach), budget=budget_of(row, column, budgets))
        for row, column, reach in zip(rows, values.T, reaches(panel, rows, sharing, values), strict=True)
    ]


@dataclass(frozen=True)
class Reach:
    """How far healthy retrains reach from their mean in a row: the spread, on its scale, and its multiplier."""

    spread: float
    k: float
    prior: bool


def reaches(
    panel: Panel,
    rows: tuple[Row, ...],
    sharing: tuple[Row, ...],
    values: np.ndarray,
    *,
    retrains: int | None = None,
    draws: int = DRAWS,
) -> list[Reach]:
    """Return how far retrains with these values, (K, rows), reach in the rows of a family.

    `sharing` are the rows that divide the family's part of false alarms: in equal parts, since each row has a t
    distribution of its own (Bonferroni); of a panel that tells nothing of its answers image by image, by a multiplier
    that all share. `retrains` asks for another number of networks that spread as these do.
    """
    from scipy.stats import t

    count = retrains or len(values)
    found = spread_of(panel, rows, values)
    std = np.maximum(np.sqrt(found.variance), _least(on_scales(values, rows), rows))
    prior = found.worth > 0
    if count >= FEW and not panel.chance:
        k = np.full(len(rows), family_multiplier(panel, sharing, retrains=count, draws=draws))
    else:
        k = t.isf(share_of(sharing[0].family, panel.families) / len(sharing), np.maximum(found.df(count), 1))
    return [Reach(float(s), float(m), bool(p)) for s, m, p in zip(std, k, prior, strict=True)]


def spread_of(panel: Panel, rows: Sequence[Row], values: np.ndarray) -> Moderated:
    """Return how far retrains with these values, (K, rows), spread in the rows of a family, on the rows' scales."""
    scaled, means = on_scales(values, rows), values.mean(axis=0)
    chance, loss = np.full(len(rows), np.nan), np.zeros(len(rows))
    for at, (row, mean) in enumerate(zip(rows, means, strict=True)):
        known = panel.chance.get(row.id)
        if row.scale == "root":
            if known:
                chance[at] = known.variance / (mean + 3 / 8)
            elif len(values) < FEW:
                chance[at] = 1.0  # Of Poisson's counts.
        elif known and (known.answers or len(values) >= PROVISIONAL):
            chance[at] = known.variance
            loss[at] = max(row.sign * (known.rest - mean), 0.0) if known.rest is not None else 0.0
    return moderated(scaled, chance, loss)


def check_panel(panel: Panel) -> None:
    """Raise `InputError` for a panel that is too small or has an outlier."""
    count = len(panel.members)
    if count < FEW and not panel.chance:
        raise InputError(
            f"a panel of {count} retrains is too small for floors where nothing is known of their answers image by "
            f"image: at least {FEW}, better 20, are needed; train more seeds, or calibrate anew"
        )
    if found := outliers(panel):
        raise InputError(
            "the panel is not one of healthy retrains: " + "; ".join(found) + "; leave them out or train them anew"
        )


def outliers(panel: Panel) -> list[str]:
    """Name the members that the others' spread cannot explain, each with its most telling row.

    Each member is held against the rest: the studentised deviation of each row (two-sided t with the rest's degrees of
    freedom, Bonferroni over members and rows) is beyond what 0.1% of healthy panels reach. Of fewer than three none can
    be told.
    """
    from scipy.stats import t

    values = panel.values(panel.rows)
    found: list[str] = []
    if len(values) < PROVISIONAL:
        return found
    for position, member in enumerate(panel.members):
        rest = np.delete(values, position, axis=0)
        chances = np.empty(len(panel.rows))
        for family in panel.families:
            at = np.array([row.family == family for row in panel.rows])
            rows = panel.family(family)
            spread = spread_of(panel, rows, rest[:, at])
            std = np.maximum(np.sqrt(spread.variance), _least(on_scales(rest[:, at], rows), rows))
            away = on_scales(values[position, at], rows) - on_scales(rest[:, at], rows).mean(axis=0)
            chances[at] = 2 * t.sf(np.abs(away) / std / _widened(len(rest)), spread.df(len(rest)))
        worst = int(chances.argmin())
        if chances[worst] < OUTLIER_SHARE / values.size:
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
                if not _holds(Calibrated.of(row, column, **asdict(reach)), value):
                    alarms.setdefault(member.path, []).append(row.id)
    return [f"{path}: {', '.join(ids)}" for path, ids in alarms.items()]


def _holds(item: Calibrated, value: float) -> bool:
    return value >= item.bound if item.row.sign > 0 else value <= item.bound


def family_multiplier(panel: Panel, rows: tuple[Row, ...], *, retrains: int, draws: int = DRAWS) -> float:
    """Return the k that these rows of one family share, for bounds from `retrains` networks."""
    values = on_scales(panel.values(rows), rows) * [row.sign for row in rows]
    share = share_of(rows[0].family, panel.families)
    return multiplier(correlation(values), share=share, retrains=retrains, draws=draws)


def share_of(family: str, families: Sequence[str]) -> float:
    """Return how often a healthy retrain may fail a family, one of these."""
    others = len(set(families) - {CLEAN})
    return ALARMS / 2 if family == CLEAN else ALARMS / 2 / max(PARTS, others)


def off_by(measured: np.ndarray, values: np.ndarray, rows: Sequence[Row]) -> np.ndarray:
    """Return how far a network lies off healthy retrains, (rows,), in standard deviations of prediction.

    On the bad side it is positive. `measured` are its values of the rows, (rows,), `values` theirs, (K, rows).
    """
    scaled, away = on_scales(values, rows), on_scales(measured, rows)
    off = (scaled.mean(axis=0) - away) / _std(scaled, rows) / _widened(len(values))
    return np.asarray(off * [row.sign for row in rows])


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


def budget_of(row: Row, values: np.ndarray, budgets: Mapping[str, float]) -> float:
    """Return the largest loss that may go unnoticed in a row, by its values of healthy retrains, (K,)."""
    mean = float(values.mean())
    return budgets.get(row.metric, budgets.get(row.family, default_budget(row, mean)))


def default_budget(row: Row, mean: float) -> float:
    """Return the largest loss that may go unnoticed where the gates file names none.

    Five points of a share; for a count a doubling, or half a percent of the images if that is more, for one of rare
    things a percent; for a severity or a factor a fifth.
    """
    if row.unit is Unit.IMAGES:
        return max(mean, (0.01 if row.scale == "root" else 0.005) * row.n)
    return 0.05 if row.unit in _SHARES else 0.2 * mean


def _widened(retrains: int) -> float:
    """Return by how much predicting from K networks, not from infinitely many, widens the spread."""
    return math.sqrt(1 + 1 / retrains)


def _std(values: np.ndarray, rows: Sequence[Row]) -> np.ndarray:
    """Return each row's standard deviation, of values on its scale, at least the least that `Calibrated` names."""
    return np.asarray(np.maximum(values.std(axis=0, ddof=1), _least(values, rows)))


def _least(values: np.ndarray, rows: Sequence[Row]) -> np.ndarray:
    """Return the least standard deviation of each row that counts."""

    def least(row: Row, mean: float) -> float:
        if row.scale == "root":
            return 1.0
        if row.unit is Unit.IMAGES:
            return max(1.0, math.sqrt(max(mean, 0)))
        return 1 / row.n if row.unit in _SHARES else 0.01 * mean

    return np.array([least(row, mean) for row, mean in zip(rows, values.mean(axis=0), strict=True)])
