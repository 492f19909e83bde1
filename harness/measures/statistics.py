"""Intervals and tests for several measures."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

Z95, Z95_ONE_SIDED = 1.96, 1.645
"""Standard errors to either side of a normal 95% interval."""
_SMALLEST_P, _LARGEST_P = 1e-15, 0.99
"""Limits of the p-values in a combination: one check that is very good must not outweigh many that are a little bad."""
_LEAST_VARIANCE = 1e-12
"""Smallest variance with a logarithm in `moderated_variances`."""
_LEAST_P = 1e-4
"""Smallest p-value in reports, since no p is 0."""


def proportion_interval(count: int, n: int) -> tuple[float, float]:
    """Return Wilson's 95% score interval of a proportion (Wilson 1927)."""
    from scipy.stats import binomtest

    interval = binomtest(count, n).proportion_ci(confidence_level=0.95, method="wilson")
    return float(interval.low), float(interval.high)


def effective_interval(share: float, n: float) -> tuple[float, float]:
    """Return Wilson's 95% interval of a share, in [0, 1], that is as uncertain as one of `n` images, not always whole.

    Dean & Pagano (2015), "Evaluating Confidence Interval Methods for Binomial Proportions in Clustered Surveys".
    """
    square = Z95**2 / n
    middle, margin = share + square / 2, math.sqrt(square * (share * (1 - share) + square / 4))
    return max((middle - margin) / (1 + square), 0.0), min((middle + margin) / (1 + square), 1.0)


def count_interval(count: float, n: int) -> tuple[float, float]:
    """Return the 95% interval of a count of `n`: Wilson's of its share, times `n`; a corrected count is rounded."""
    low, high = proportion_interval(round(count), n)
    return low * n, high * n


def mean_interval(
    values: np.ndarray, limits: tuple[float, float], *, ddof: int = 0
) -> tuple[float, float]:
    """Return the normal 95% interval of a mean, mean ± 1.96 standard errors, within its limits.

    `values` is (N,); with `ddof` 1 the standard deviation is the sample's. For a single value, which has no spread, it
    is the whole range of the limits.
    """
    if len(values) <= ddof:
        return limits
    mean, margin = float(values.mean()), Z95 * float(values.std(ddof=ddof)) / math.sqrt(len(values))
    return max(mean - margin, limits[0]), min(mean + margin, limits[1])


def moderated_variances(variances: np.ndarray, *, df: int) -> np.ndarray:
    """Return variances, (N,), each of so many degrees of freedom, shrunk to a common one.

    The method is that of Smyth (2004), "Linear models and empirical Bayes methods", section 6.2.
    """
    import numpy as np
    from scipy.optimize import brentq
    from scipy.special import digamma, polygamma

    logs = np.log(np.maximum(variances, _LEAST_VARIANCE)) - digamma(df / 2) + np.log(df / 2)
    excess = logs.var(ddof=1) - float(polygamma(1, df / 2)) if len(logs) > 1 else 0.0
    fewest_df, most_df = 1e-2, 1e4

    # Without an excess, the variances differ by chance alone.
    differ_by_chance = excess <= polygamma(1, most_df / 2)
    prior_df = (
        most_df
        if differ_by_chance
        else brentq(lambda d: polygamma(1, d / 2) - excess, fewest_df, most_df)
    )

    common = np.exp(logs.mean() + digamma(prior_df / 2) - np.log(prior_df / 2))
    return np.asarray((prior_df * common + df * variances) / (prior_df + df))


def mcnemar_p(lost: int, gained: int) -> float:
    """Return the p-value of the exact two-sided McNemar test; 1 without changed images.

    McNemar (1947), "Note on the Sampling Error of the Difference Between Correlated Proportions", by the binomial.
    """
    from scipy.stats import binomtest

    changed = lost + gained
    return float(binomtest(lost, changed, 0.5).pvalue) if changed else 1.0


def combined_p(p: Sequence[float], weights: Sequence[float]) -> float:
    """Return one p-value of several, at least one, that may depend on each other in any way: the Cauchy combination.

    The weights are positive. Liu & Xie (2020), "Cauchy Combination Test": small p-values of the result are nearly exact
    under dependence. Large p-values count as 0.99, as in the truncated test of Fang et al. (2023).
    """
    total = sum(weights)
    each = (min(max(one, _SMALLEST_P), _LARGEST_P) for one in p)
    statistic = sum(
        weight / total * math.tan((0.5 - one) * math.pi)
        for one, weight in zip(each, weights, strict=True)
    )
    return 0.5 - math.atan(statistic) / math.pi


def related(p: float) -> str:
    """Return a p-value, in [0, 1], with its relation, such as "= 0.012" or "< 0.0001"; never as 0."""
    return f"= {p:.2g}" if p >= _LEAST_P else f"< {_LEAST_P:.4f}"
