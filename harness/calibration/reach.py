"""How far healthy retrains reach from their mean in the rows of a family: spread, and multiplier."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.calibration.moderated import FEW, moderated
from harness.calibration.multipliers import DRAWS, family_multiplier, share_of
from harness.calibration.scales import on_scales
from harness.measures import Unit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.calibration.moderated import Moderated
    from harness.calibration.panel import Panel, Row

PROVISIONAL = 3
"""Retrains from which on bounds are no longer provisional: two may be as unlike the third as one is."""
SHARES = (Unit.SHARE, Unit.DIFFERENCE)


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

    `sharing` are those of them that divide the family's part of false alarms: so that each is missed as often, since
    each has a t distribution of its own; where no row has a prior, by a multiplier that all share. `retrains` asks for
    another number of networks that spread as these do.
    """
    found = spread_of(panel, rows, values)
    std, prior = std_of(found, values, rows), found.worth > 0
    k = multipliers_of(panel, rows, sharing, found, retrains=retrains or len(values), draws=draws)
    return [Reach(float(s), float(m), bool(p)) for s, m, p in zip(std, k, prior, strict=True)]


def multipliers_of(
    panel: Panel,
    rows: Sequence[Row],
    sharing: tuple[Row, ...],
    found: Moderated,
    *,
    retrains: int,
    draws: int = DRAWS,
) -> np.ndarray:
    """Return each row's multiplier, (rows,), of so many retrains that spread as found; `sharing` as in `reaches`."""
    if retrains >= FEW and not found.worth.any():
        return np.full(len(rows), family_multiplier(panel, sharing, retrains=retrains, draws=draws))
    among = {row.id for row in sharing}
    at = [place for place, row in enumerate(rows) if row.id in among]
    return found.multipliers(share_of(rows[0].family, panel.families), retrains, at)


def spread_of(panel: Panel, rows: Sequence[Row], values: np.ndarray) -> Moderated:
    """Return how far retrains with these values, (K, rows), spread in the rows of a family, on the rows' scales."""
    scaled, means = on_scales(values, rows), values.mean(axis=0)
    chance, loss = np.full(len(rows), np.nan), np.zeros(len(rows))
    for at, (row, mean) in enumerate(zip(rows, means, strict=True)):
        known = panel.chance.get(row.id)
        if row.scale == "root":
            # An image lost in one view is often lost in another: where it counts twice, chance knows too little.
            if known and known.answers:
                chance[at] = known.variance / (mean + 3 / 8)
            elif not known and len(values) < FEW:
                chance[at] = 1.0  # Of Poisson's counts.
        elif known and (known.answers or len(values) >= PROVISIONAL):
            chance[at] = known.variance
            loss[at] = max(row.sign * (known.rest - mean), 0.0) if known.rest is not None else 0.0
    return moderated(scaled, chance, loss)


def std_of(found: Moderated, values: np.ndarray, rows: Sequence[Row]) -> np.ndarray:
    """Return the standard deviation that counts of each row, on its scale: what was found, at least the least."""
    return np.asarray(np.maximum(np.sqrt(found.variance), least_of(on_scales(values, rows), rows)))


def least_of(values: np.ndarray, rows: Sequence[Row]) -> np.ndarray:
    """Return the least standard deviation of each row that counts."""

    def least(row: Row, mean: float) -> float:
        if row.scale == "root":
            return 1.0
        if row.unit is Unit.IMAGES:
            return max(1.0, math.sqrt(max(mean, 0)))
        return 1 / row.n if row.unit in SHARES else 0.01 * mean

    return np.array([least(row, mean) for row, mean in zip(rows, values.mean(axis=0), strict=True)])
