"""How many standard deviations a bound lies off: a family's part of the 1%, and what its rows share of it."""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from harness.calibration.scales import on_scales

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.calibration.panel import Panel, Row

ALARMS, PARTS = 0.01, 12
"""How often a healthy retrain may fail any gate, and the parts of one half of it if families are no more.

Other ways to divide it are compared in `benchmarks.detection.shares`."""
CLEAN = "clean"
"""The family that has the other half."""
DRAWS = 200_000
"""Of the parametric bootstrap: a family's share is then known to about a tenth of itself."""
DRAWN = 200
"""Rows of the largest family whose multiplier is drawn; that of more is larger than it need be, if rows correlate.

Of 20 retrains and 200 rows by 0.3%, whether no two correlate or each two by 0.02, as the shipped corruptions do, which
are the largest family; by 14% at 0.9."""


def family_multiplier(panel: Panel, rows: tuple[Row, ...], *, retrains: int, draws: int = DRAWS) -> float:
    """Return the k that these rows of one family share, for bounds from `retrains` networks."""
    values = on_scales(panel.values(rows), rows) * [row.sign for row in rows]
    share = share_of(rows[0].family, panel.families)
    return multiplier(correlation(values), share=share, retrains=retrains, draws=draws)


def share_of(family: str, families: Sequence[str]) -> float:
    """Return how often a healthy retrain may fail a family, one of these."""
    others = len(set(families) - {CLEAN})
    return ALARMS / 2 if family == CLEAN else ALARMS / 2 / max(PARTS, others)


def multiplier(correlations: np.ndarray, *, share: float, retrains: int, draws: int = DRAWS, seed: int = 0) -> float:
    """Return the k with which one more retrain misses any of R bounds with probability `share`.

    For one row that is Student's t quantile with K - 1 degrees of freedom. For up to `DRAWN`, a parametric bootstrap
    draws panels and one more retrain from the normal distribution with these correlations, (R, R), and takes the
    quantile of the largest deviation. For more, whose bootstrap would take minutes to hours, it is the t quantile of an
    R-th of the share (Bonferroni's), which is never smaller, so that no more healthy retrains fail.
    """
    from scipy.stats import t

    rows = len(correlations)
    if rows == 1 or rows > DRAWN:
        return float(t.isf(share / rows, retrains - 1))
    return _drawn(correlations.astype(float).tobytes(), share, retrains, draws, seed)


@cache
def _drawn(correlations: bytes, share: float, retrains: int, draws: int, seed: int) -> float:
    """Return the quantile that the bootstrap finds, once: each member that is left out asks for the same."""
    rng, flat = np.random.default_rng(seed), np.frombuffer(correlations)
    rows = math.isqrt(len(flat))
    # Not Cholesky's root: correlations may be singular.
    variances, directions = np.linalg.eigh(flat.reshape(rows, rows))
    root = (directions * np.sqrt(np.maximum(variances, 0))).astype(np.float32)
    largest = []
    batch = max(1, 4_000_000 // ((retrains + 1) * rows))
    for start in range(0, draws, batch):
        size = min(batch, draws - start)
        values = rng.standard_normal((size, retrains + 1, rows), dtype=np.float32) @ root.T
        panels, retrain = values[:, :-1], values[:, -1]
        largest.append(((panels.mean(axis=1) - retrain) / panels.std(axis=1, ddof=1)).max(axis=1))
    return float(np.quantile(np.concatenate(largest), 1 - share) / widened(retrains))


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


def widened(retrains: int) -> float:
    """Return by how much predicting from K networks, not from infinitely many, widens the spread."""
    return math.sqrt(1 + 1 / retrains)
