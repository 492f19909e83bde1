"""Multiplicity: the multiplier k for the checks of a family that share a probability of false alarms."""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from harness.measures.panel.threshold import widened

DRAWS = 200_000
"""Draws of the parametric bootstrap, which determine a share to about a tenth of itself."""
DRAWN = 200
"""Most checks of a family for the bootstrap. In larger families, k is too large if checks correlate.

For 20 models and 200 checks, the excess is 0.3% without correlation, and also at 0.02, the mean of the shipped
corruptions, the largest family. It is 14% at 0.9."""


def multiplier(
    correlations: np.ndarray, *, share: float, reference_models: int, draws: int = DRAWS, seed: int = 0
) -> float:
    """Return the k for which one more model fails any of R thresholds with probability `share`.

    For one check it is Student's t quantile with K - 1 degrees of freedom. For up to `DRAWN`, it comes from a
    parametric bootstrap with these correlations, (R, R). This draws panels and one more model from a normal
    distribution and takes the quantile of the largest deviation. For more checks, it is the t quantile of an R-th of
    the share (Bonferroni), since a bootstrap would take minutes to hours. That k is never smaller, so it causes no more
    false alarms.
    """
    from scipy.stats import t

    checks = len(correlations)
    if checks == 1 or checks > DRAWN:
        return float(t.isf(share / checks, reference_models - 1))
    return _drawn(correlations.astype(float).tobytes(), share, reference_models, draws, seed)


@cache
def _drawn(correlations: bytes, share: float, reference_models: int, draws: int, seed: int) -> float:
    rng, flat = np.random.default_rng(seed), np.frombuffer(correlations)
    checks = math.isqrt(len(flat))
    # Cholesky's root does not exist for singular correlations.
    variances, directions = np.linalg.eigh(flat.reshape(checks, checks))
    root = (directions * np.sqrt(np.maximum(variances, 0))).astype(np.float32)
    largest = []
    batch = max(1, 4_000_000 // ((reference_models + 1) * checks))
    for start in range(0, draws, batch):
        size = min(batch, draws - start)
        values = rng.standard_normal((size, reference_models + 1, checks), dtype=np.float32) @ root.T
        panels, retrain = values[:, :-1], values[:, -1]
        largest.append(((panels.mean(axis=1) - retrain) / panels.std(axis=1, ddof=1)).max(axis=1))
    return float(np.quantile(np.concatenate(largest), 1 - share) / widened(reference_models))


def correlation(values: np.ndarray) -> np.ndarray:
    """Return the correlations of the columns, (checks, checks), shrunk towards zero (Ledoit & Wolf 2004).

    Few models overstate correlations, and so understate the number of independent checks. A constant column correlates
    with no other.
    """
    from sklearn.covariance import ledoit_wolf

    spread = values.std(axis=0)
    varying = spread > 1e-9 * np.maximum(np.abs(values).max(axis=0), 1)  # Equal values have a spread by rounding.
    result = np.eye(values.shape[1])
    if varying.sum() > 1:
        standardised = (values[:, varying] - values[:, varying].mean(axis=0)) / spread[varying]
        shrunk, _ = ledoit_wolf(standardised, assume_centered=True)
        scale = np.sqrt(np.diag(shrunk))
        result[np.ix_(varying, varying)] = shrunk / np.outer(scale, scale)
    return result
