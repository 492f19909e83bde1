"""Intervals and tests for several measures."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

Z95 = 1.96
"""Standard errors to either side of a normal 95% interval."""
Z95_ONE_SIDED = 1.645
"""Standard errors to the one side of a normal one-sided 95% interval."""
_SMALLEST_P = 1e-15
_LARGEST_P = 0.99
"""Limits of the p-values in a combination.

One check that is very good must not outweigh many that are a little bad.
"""
_LEAST_VARIANCE = 1e-12
"""Smallest variance with a logarithm in `moderated_variances`."""
_LEAST_P = 1e-4
"""Smallest p-value in reports, since no p is 0."""


def proportion_interval(count: int, n: int) -> tuple[float, float]:
    """Return Wilson's 95% score interval of a proportion (Wilson 1927).

    >>> low, high = proportion_interval(90, 100)
    >>> round(low, 3), round(high, 3)
    (0.826, 0.945)
    """
    from scipy.stats import binomtest

    interval = binomtest(count, n).proportion_ci(confidence_level=0.95, method="wilson")
    return float(interval.low), float(interval.high)


def effective_interval(share: float, n: float) -> tuple[float, float]:
    """Return Wilson's 95% interval of a share that is as uncertain as one of `n` images.

    Args:
        share: The share, in [0, 1].
        n: The effective number of images, which need not be whole.
    """
    # Wilson's interval with the effective sample size in place of n: Dean & Pagano (2015),
    # "Evaluating Confidence Interval Methods for Binomial Proportions in Clustered Surveys".
    square = Z95**2 / n
    middle = share + square / 2
    margin = math.sqrt(square * (share * (1 - share) + square / 4))
    low = max((middle - margin) / (1 + square), 0.0)
    high = min((middle + margin) / (1 + square), 1.0)
    return low, high


def score_interval(scores: np.ndarray) -> tuple[float, float]:
    """Return the 95% interval of a mean of scores in [0, 1], within these limits.

    It is Wilson's interval of a share that is as uncertain as the mean, and for scores of 0 and 1
    that of their share. Equal scores, which show no spread, have the interval of a share, since no
    scores in [0, 1] with this mean vary more.

    >>> import numpy as np
    >>> low, high = score_interval(np.array([0.0] * 10 + [1.0] * 90))
    >>> round(low, 3), round(high, 3)
    (0.826, 0.945)

    Args:
        scores: The scores, (N,).
    """
    mean = float(scores.mean())
    effective_images = float(len(scores))
    if scores.min() < scores.max():
        # A share of n images has the variance m (1 - m) / n. See `effective_interval`.
        effective_images *= mean * (1 - mean) / float(scores.var())
    return effective_interval(mean, effective_images)


def count_interval(count: float, n: int) -> tuple[float, float]:
    """Return the 95% interval of a count of `n`: Wilson's interval of its share, times `n`.

    A corrected count, which is not whole, is rounded.
    """
    low, high = proportion_interval(round(count), n)
    return low * n, high * n


def mean_interval(
    values: np.ndarray, limits: tuple[float, float], *, ddof: int = 0
) -> tuple[float, float]:
    """Return the normal 95% interval of a mean, mean ± 1.96 standard errors, within its limits.

    For a single value, which has no spread, it is the whole range of the limits.

    Args:
        values: The values, (N,).
        limits: The least and the greatest possible value.
        ddof: 1 for the standard deviation of a sample, 0 for that of the population.
    """
    if len(values) <= ddof:
        return limits
    mean = float(values.mean())
    standard_deviation = float(values.std(ddof=ddof))
    margin = Z95 * standard_deviation / math.sqrt(len(values))
    return max(mean - margin, limits[0]), min(mean + margin, limits[1])


def moderated_variances(variances: np.ndarray, *, df: int) -> np.ndarray:
    """Return variances, shrunk to a common one.

    The method is that of Smyth (2004), "Linear models and empirical Bayes methods", section 6.2.

    Args:
        variances: The variances, (N,).
        df: Degrees of freedom of each.
    """
    import numpy as np
    from scipy.optimize import brentq
    from scipy.special import digamma, polygamma

    # The mean and the variance of the logarithms, less those by chance, estimate the prior
    # (Smyth 2004, section 6.2).
    logs = np.log(np.maximum(variances, _LEAST_VARIANCE)) - digamma(df / 2) + np.log(df / 2)
    excess = 0.0
    if len(logs) > 1:
        excess = logs.var(ddof=1) - float(polygamma(1, df / 2))
    fewest_df = 1e-2
    most_df = 1e4

    # Without an excess, the variances differ by chance alone.
    if excess <= polygamma(1, most_df / 2):
        prior_df = most_df
    else:
        prior_df = brentq(lambda d: polygamma(1, d / 2) - excess, fewest_df, most_df)
    common = np.exp(logs.mean() + digamma(prior_df / 2) - np.log(prior_df / 2))

    # The posterior mean weights both by their degrees of freedom.
    return np.asarray((prior_df * common + df * variances) / (prior_df + df))


def mcnemar_p(lost: int, gained: int) -> float:
    """Return the p-value of the exact two-sided McNemar test; 1 without changed images.

    McNemar (1947), "Note on the Sampling Error of the Difference Between Correlated Proportions".

    >>> mcnemar_p(lost=5, gained=0)
    0.0625
    """
    from scipy.stats import binomtest

    changed = lost + gained
    if not changed:
        return 1.0
    # If both models are equally good, a changed image is lost or gained with equal probability.
    return float(binomtest(lost, changed, 0.5).pvalue)


def paired_p(differences: np.ndarray) -> float:
    """Return the p-value of the two-sided paired t test, of a mean difference of zero.

    It is 1 without any difference, and for a single image, which shows no spread.

    >>> import numpy as np
    >>> round(paired_p(np.array([-0.1, 0.0, -0.2, -0.1])), 3)
    0.092

    Args:
        differences: The difference for each image, (N,).
    """
    from scipy.stats import t

    n = len(differences)
    if n == 1 or not differences.any():
        return 1.0
    standard_error = float(differences.std(ddof=1)) / math.sqrt(n)
    if standard_error == 0:
        return 0.0
    return float(2 * t.sf(abs(float(differences.mean())) / standard_error, n - 1))


def combined_p(p: Sequence[float], weights: Sequence[float]) -> float:
    """Return one p-value of several, at least one, that may depend on each other in any way.

    The method is the Cauchy combination test (Liu & Xie 2020), in which small p-values of the
    result are nearly exact under dependence. Large p-values count as 0.99, as in the truncated test
    of Fang et al. (2023).

    Args:
        p: The p-values.
        weights: A positive weight for each.
    """
    total = sum(weights)
    statistic: float = 0
    for value, weight in zip(p, weights, strict=True):
        limited = min(max(value, _SMALLEST_P), _LARGEST_P)
        statistic += weight / total * math.tan((0.5 - limited) * math.pi)

    # The weighted mean of Cauchy variables is a Cauchy variable, with this upper tail.
    return 0.5 - math.atan(statistic) / math.pi


def related(p: float) -> str:
    """Return a p-value, in [0, 1], with its relation; never as 0.

    >>> related(0.0123), related(1e-9)
    ('= 0.012', '< 0.0001')
    """
    if p >= _LEAST_P:
        return f"= {p:.2g}"
    return f"< {_LEAST_P:.4f}"
