"""Intervals and tests that several measures share."""

from __future__ import annotations


def proportion_interval(count: int, n: int) -> tuple[float, float]:
    """Return Wilson's 95% score interval of a proportion (Wilson 1927)."""
    from scipy.stats import binomtest

    interval = binomtest(count, n).proportion_ci(confidence_level=0.95, method="wilson")
    return float(interval.low), float(interval.high)
