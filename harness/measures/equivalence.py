"""Equivalence of an artifact to its original: bounds on their distance, compared with a tolerance.

Two questions have two error rates. An artifact is equal if the upper bound is within the tolerance
in every check. That is an intersection-union test (Berger 1982), so each check keeps its full
level. It is different if the lower bound of some check is beyond the tolerance. The checks then
share the level (Bonferroni). Between the two, the outcome is inconclusive, and more images are
needed.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal

import numpy as np

from harness.base.records import UnboundedFloat, record

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

CONFIDENCE = 0.99
"""Confidence of each one-sided bound."""
MOST_IMAGES = 100_000_000
"""Largest number of needed images that a message names."""
_ON_LOST = 0.99
"""Share of the error probability for the bound on losses.

That on gains, which matters less, gets the rest.
"""
_FEW = 30
"""Least number of contributing images for a bootstrap."""
_LARGE = 1e-3
"""Least contribution of an image that counts."""
_RESAMPLES = 4_999
"""Number of resamples of a bootstrap."""
_FEW_VALUES = 64
"""Number of different contributions up to which the draws of each value are counted."""

Outcome = Literal["equal", "different", "inconclusive", "informational"]
"""Result of comparing bounds with a tolerance.

It is informational if all groups are too small to prove it.
"""


@dataclass(frozen=True, eq=False)
class Quantity:
    """A quantity on `n` images, with one-sided bounds.

    Attributes:
        value: The value.
        n: The number of images.
        limits: Returns, for a confidence and a factor `more`, a lower and an upper bound. Each has
            this confidence if `more` times as many images (1 by default) gave the value.
        group: The worst of several groups.
        unproved: The number of groups that are too small to be proved equal.
        provable: Whether some group is large enough to be proved equal.
    """

    value: float
    n: int
    limits: Callable[..., tuple[float, float]]
    group: str = ""
    unproved: int = 0
    provable: bool = True


@record
class ConfidenceLimits:
    """The one-sided bounds of a quantity that decide an outcome, each at its own level.

    Without groups that are large enough, equality is not `provable`.
    """

    lower: UnboundedFloat
    upper: UnboundedFloat
    provable: bool = True

    def outcome(self, tolerance: float) -> Outcome:
        """Return the outcome at a tolerance."""
        if self.lower > tolerance:
            return "different"
        if not self.provable:
            return "informational"
        if self.upper <= tolerance:
            return "equal"
        return "inconclusive"


def proportion_limits(count: float, n: float, confidence: float) -> tuple[float, float]:
    """Return the exact one-sided bounds of a proportion, `count` of `n` (Clopper & Pearson 1934).

    For a count that is not a whole number, as a sum of shares, the bounds lie between those of its
    neighbors.

    >>> lower, upper = proportion_limits(0, 100, 0.95)
    >>> lower, round(upper, 4)
    (0.0, 0.0295)
    """
    from scipy.stats import beta

    lower = 0.0
    if count > 0:
        lower = float(beta.ppf(1 - confidence, count, n - count + 1))
    upper = 1.0
    if count < n:
        upper = float(beta.ppf(confidence, count + 1, n - count))
    return lower, upper


def net_limits(lost: float, gained: float, n: float, confidence: float) -> tuple[float, float]:
    """Return conservative one-sided bounds of a net loss, (lost - gained) / n.

    Losses and gains are those of paired predictions.
    """
    # Each bound combines exact bounds of both proportions, with error probabilities that add up to
    # its own (Bonferroni). The losses, which matter, get 99% of it, so that without gains the bound
    # is hardly wider than that of losses.
    error = 1 - confidence
    least_lost, most_lost = proportion_limits(lost, n, 1 - _ON_LOST * error)
    least_gained, most_gained = proportion_limits(gained, n, 1 - (1 - _ON_LOST) * error)
    return least_lost - most_gained, most_lost - least_gained


def proportion(count: int, n: int) -> Quantity:
    """Return a share of independent images, `count` of `n`, with the bounds of `proportion_limits`.

    >>> proportion(3, 1_000).value
    0.003
    """

    def limits(confidence: float, more: float = 1.0) -> tuple[float, float]:
        return proportion_limits(count * more, n * more, confidence)

    return Quantity(count / n, n, limits)


def net_loss(lost: int, gained: int, n: int) -> Quantity:
    """Return correct predictions lost, less those gained, as a share of `n` paired images.

    The bounds are those of `net_limits`.

    >>> net_loss(lost=5, gained=1, n=1_000).value
    0.004
    """

    def limits(confidence: float, more: float = 1.0) -> tuple[float, float]:
        return net_limits(lost * more, gained * more, n * more, confidence)

    return Quantity((lost - gained) / n, n, limits)


def mean(each: np.ndarray) -> Quantity:
    """Return the mean of the images' contributions: pooled over views, or a distance.

    The bounds come from a bootstrap that draws images with all their views (BCa, Efron 1987). With
    few contributing images, they are those of `net_limits` or `proportion_limits`.

    Args:
        each: The contribution of each image, (N,) in [-1, 1].
    """
    value = float(each.mean())
    n = len(each)
    resampled_means = cache(lambda: _resampled_means(each))

    def limits(confidence: float, more: float = 1.0) -> tuple[float, float]:
        contributing = int((np.abs(each) > _LARGE).sum())
        if contributing * more < _FEW:
            return _limits_by_few(each, more, confidence)
        if more == 1:
            means = resampled_means()
            lower = _bca_quantile(each, means, 1 - confidence)
            upper = _bca_quantile(each, means, confidence)
            return lower, upper

        # The distance from the mean shrinks with the root of the number of images.
        lower, upper = limits(confidence)
        shrunk = math.sqrt(more)
        return value - (value - lower) / shrunk, value + (upper - value) / shrunk

    return Quantity(value, n, limits)


def _limits_by_few(each: np.ndarray, more: float, confidence: float) -> tuple[float, float]:
    """Return bounds of a mean with fewer than `_FEW` contributing images."""
    # A bootstrap would be too narrow. Each contribution counts as a share of an image instead. That
    # is conservative: no variable within [0, 1] has a larger variance at its mean than one with the
    # values 0 and 1.
    n = len(each)
    positive = float(np.clip(each, 0, 1).sum()) * more
    negative = float(np.clip(-each, 0, 1).sum()) * more
    if (each < 0).any():
        return net_limits(positive, negative, n * more, confidence)
    return proportion_limits(positive, n * more, confidence)


def _bca_quantile(each: np.ndarray, means: np.ndarray, level: float) -> float:
    """Return the bias-corrected and accelerated quantile of resampled means (Efron 1987).

    It is infinite if the resamples are too few for this level.

    Args:
        each: The contribution of each image, (N,).
        means: The means of the resamples, ascending.
        level: The level of the quantile, in [0, 1].
    """
    from scipy.stats import norm

    value = float(each.mean())
    distances = each - value
    before = np.searchsorted(means, value, "left")
    until = np.searchsorted(means, value, "right")
    share_below = (before + until) / 2 / len(means)
    bias = norm.ppf(np.clip(share_below, 1e-6, 1 - 1e-6))
    acceleration = float((distances**3).sum() / (6 * (distances**2).sum() ** 1.5))

    at = bias + norm.ppf(level)
    position = float(norm.cdf(bias + at / (1 - acceleration * at))) * (len(means) + 1)
    if level < 1 / (len(means) + 1) or position < 1:
        return -math.inf
    if position > len(means):
        return math.inf
    return float(means[math.ceil(position) - 1])


def _resampled_means(each: np.ndarray) -> np.ndarray:
    """Return the means of `_RESAMPLES` samples of the images, ascending."""
    generator = np.random.default_rng(0)
    n = len(each)
    values, counts = np.unique(each, return_counts=True)
    if len(values) <= _FEW_VALUES:
        # For shares of a few views, the number of draws of each value is enough.
        draws = generator.multinomial(n, counts / n, size=_RESAMPLES)
        return np.sort(draws @ values / n)
    means = [each[generator.integers(0, n, n)].mean() for _ in range(_RESAMPLES)]
    return np.sort(means)


def quantile(each: np.ndarray, share: float) -> Quantity:
    """Return the quantile at a `share` of the images: the smallest value that it does not exceed.

    The bounds are order statistics, exact for any distribution, and infinite for too few images.

    >>> import numpy as np
    >>> quantile(np.arange(1_000), 0.99).value
    989.0

    Args:
        each: The value of each image, (N,).
        share: The share of the images, in (0, 1).
    """
    values = np.sort(each)
    size = len(each)

    def limits(confidence: float, more: float = 1.0) -> tuple[float, float]:
        from scipy.stats import binom

        # The number of images below the quantile is binomial (David & Nagaraja 2003, "Order
        # Statistics", section 7.1).
        n = round(size * more)
        below = int(binom.ppf(1 - confidence, n, share))
        above = int(binom.ppf(confidence, n, share)) + 1
        lower = -math.inf
        if below >= 1:
            lower = value_at(below, n)
        upper = math.inf
        if above <= n:
            upper = value_at(above, n)
        return lower, upper

    def value_at(rank: int, n: int) -> float:
        """Return the value at this rank among n images that are distributed as these."""
        position = min(math.ceil(rank / n * size), size)
        return float(values[position - 1])

    return Quantity(float(values[max(math.ceil(share * size) - 1, 0)]), size, limits)


def worst(parts: Mapping[str, Quantity], *, least: int = 1) -> Quantity:
    """Return the worst of several groups of images, such as classes, by name.

    A group with fewer than `least` images cannot be proved equal, so the upper bound is that of the
    others. The lower bound covers all groups, which share the error probability. With `more`
    images, both are of the large groups, if any, which then share nothing.

    >>> groups = {"front": proportion(1, 1_000), "rear": proportion(3, 1_000)}
    >>> worst(groups).group
    'rear'
    """
    large = {name: part for name, part in parts.items() if part.n >= least}
    candidates = large or parts
    group = max(candidates, key=lambda name: parts[name].value)

    def limits(confidence: float, more: float = 1.0) -> tuple[float, float]:
        if more != 1:
            with_more = [part.limits(confidence, more) for part in candidates.values()]
            return max(lower for lower, _ in with_more), max(upper for _, upper in with_more)

        shared_confidence = 1 - (1 - confidence) / len(parts)
        lower = max(part.limits(shared_confidence)[0] for part in parts.values())
        upper = math.inf
        if large:
            upper = max(part.limits(confidence)[1] for part in large.values())
        return lower, upper

    return Quantity(
        parts[group].value,
        sum(part.n for part in parts.values()),
        limits,
        group=group,
        unproved=len(parts) - len(large),
        provable=bool(large),
    )


def outcome_of(measured: Quantity, tolerance: float, *, level: float = 1 - CONFIDENCE) -> Outcome:
    """Return the outcome of a quantity at a tolerance.

    "different" is wrong with a probability of at most `level`.
    """
    return confidence_limits_of(measured, level=level).outcome(tolerance)


def confidence_limits_of(measured: Quantity, *, level: float = 1 - CONFIDENCE) -> ConfidenceLimits:
    """Return the bounds of a quantity.

    The lower one is too large with a probability of at most `level`.
    """
    lower, _ = measured.limits(1 - level)
    _, upper = measured.limits(CONFIDENCE)
    return ConfidenceLimits(float(lower), float(upper), measured.provable)


def least_images(tolerance: float) -> int:
    """Return the number of unchanged images that proves a share below the tolerance, in (0, 1).

    >>> least_images(0.001)
    4603
    """
    # Without a change among n images, the exact upper bound is 1 - (1 - CONFIDENCE)^(1/n).
    return math.ceil(math.log(1 - CONFIDENCE) / math.log1p(-tolerance))


def images_needed(measured: Quantity, tolerance: float) -> int | None:
    """Return the approximate number of images that decides about a quantity at a tolerance.

    The quantity keeps its value. None if value and tolerance are too close for any realistic
    number.
    """

    def decide(images: int) -> bool:
        lower, upper = measured.limits(CONFIDENCE, images / measured.n)
        if measured.value > tolerance:
            return lower > tolerance
        return upper <= tolerance

    # Limits by a bootstrap do not narrow steadily, so the first bracket counts.
    low = measured.n
    high = 2 * measured.n
    while not decide(high):
        low = high
        high = 2 * high
        if low > MOST_IMAGES:
            return None
    first = bisect_left(range(low, high), True, key=decide)  # noqa: FBT003  The first that decides.
    return low + first
