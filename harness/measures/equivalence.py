"""Equivalence of an artifact to its original: exact bounds on their distance, compared with a tolerance.

Two questions have two error rates. An artifact is equal if the upper bound is within the tolerance in every check. That
is an intersection-union test (Berger 1982), so each check keeps its full level. It is different if the lower bound of
some check is beyond the tolerance. The checks then share the level (Bonferroni). Between the two, the outcome is
inconclusive, and more images are needed.
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
"""Share of the error probability for the bound on losses; that on gains, which matters less, gets the rest."""
_FEW = 30
"""Least contributing images for a bootstrap; `_LARGE` is the least contribution that counts."""
_LARGE = 1e-3
_RESAMPLES = 4_999
_FEW_VALUES = 64

Outcome = Literal["equal", "different", "inconclusive", "informational"]
"""Result of comparing bounds with a tolerance; informational if all groups are too small to prove it."""


@dataclass(frozen=True, eq=False)
class Quantity:
    """A quantity of `value` on `n` images, with one-sided bounds.

    `limits(confidence, more)` returns a lower and an upper bound, each of this confidence, if `more` times as many
    images (1 by default) gave the value. Of several groups, `group` is the worst one, and `unproved` the number of
    those that are too small to be proved equal.
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
        return "equal" if self.upper <= tolerance else "inconclusive"


def proportion_limits(count: float, n: float, confidence: float) -> tuple[float, float]:
    """Return the exact one-sided bounds of a proportion, `count` of `n` (Clopper & Pearson 1934).

    For a count that is not a whole number, as a sum of shares, the bounds lie between those of its neighbors.
    """
    from scipy.stats import beta

    lower = float(beta.ppf(1 - confidence, count, n - count + 1)) if count > 0 else 0.0
    upper = float(beta.ppf(confidence, count + 1, n - count)) if count < n else 1.0
    return lower, upper


def net_limits(lost: float, gained: float, n: float, confidence: float) -> tuple[float, float]:
    """Return conservative one-sided bounds of a net loss, (lost - gained) / n, of paired predictions.

    Each combines exact bounds of both proportions, with error probabilities that add up to its own (Bonferroni). The
    proportion that matters, for the upper bound the losses, gets 99% of it. Without gains, the bound is hardly wider
    than that of losses.
    """
    error = 1 - confidence
    most, least = 1 - _ON_LOST * error, 1 - (1 - _ON_LOST) * error
    upper = proportion_limits(lost, n, most)[1] - proportion_limits(gained, n, least)[0]
    lower = proportion_limits(lost, n, most)[0] - proportion_limits(gained, n, least)[1]
    return lower, upper


def proportion(count: int, n: int) -> Quantity:
    """Return a share of independent images, `count` of `n`, with the bounds of `proportion_limits`."""
    return Quantity(
        count / n, n, lambda sure, more=1.0: proportion_limits(count * more, n * more, sure)
    )


def net_loss(lost: int, gained: int, n: int) -> Quantity:
    """Return correct predictions lost, less those gained, as a share of `n` paired images; see `net_limits`."""
    return Quantity(
        (lost - gained) / n,
        n,
        lambda sure, more=1.0: net_limits(lost * more, gained * more, n * more, sure),
    )


def mean(each: np.ndarray) -> Quantity:
    """Return the mean of the images' contributions, `each` (N,) in [-1, 1]: pooled over views, or a distance.

    The bounds come from a bootstrap that draws images with all their views (BCa, Efron 1987). With fewer than 30
    contributing images its intervals would be too narrow. Each contribution then counts as a share of an image. That is
    conservative, as no variable within [0, 1] has a larger variance at its mean than one with the values 0 and 1.
    With `more` images, the distance from the mean shrinks with the root of their number.
    """
    value, n = float(each.mean()), len(each)
    resampled = cache(lambda: _resampled_means(each))

    def bca(level: float) -> float:
        """Return the bias-corrected and accelerated quantile; infinite if the resamples are too few for it."""
        from scipy.stats import norm

        means, apart = resampled(), each - value
        below = (np.searchsorted(means, value, "left") + np.searchsorted(means, value, "right")) / 2
        bias = norm.ppf(np.clip(below / len(means), 1e-6, 1 - 1e-6))
        acceleration = float((apart**3).sum() / (6 * (apart**2).sum() ** 1.5))
        at = bias + norm.ppf(level)
        position = float(norm.cdf(bias + at / (1 - acceleration * at))) * (len(means) + 1)
        if level < 1 / (len(means) + 1) or position < 1:
            return -math.inf
        return math.inf if position > len(means) else float(means[math.ceil(position) - 1])

    def limits(confidence: float, more: float = 1.0) -> tuple[float, float]:
        if int((np.abs(each) > _LARGE).sum()) * more < _FEW:
            gone, come = (float(np.clip(sign * each, 0, 1).sum()) * more for sign in (1, -1))
            if (each < 0).any():
                return net_limits(gone, come, n * more, confidence)
            return proportion_limits(gone, n * more, confidence)
        if more == 1:
            return bca(1 - confidence), bca(confidence)
        (lower, upper), shrunk = limits(confidence), math.sqrt(more)
        return value - (value - lower) / shrunk, value + (upper - value) / shrunk

    return Quantity(value, n, limits)


def _resampled_means(each: np.ndarray) -> np.ndarray:
    generator, n = np.random.default_rng(0), len(each)
    values, counts = np.unique(each, return_counts=True)
    if (
        len(values) <= _FEW_VALUES
    ):  # For shares of a few views, the number of draws of each value is enough.
        return np.sort(generator.multinomial(n, counts / n, size=_RESAMPLES) @ values / n)
    return np.sort([each[generator.integers(0, n, n)].mean() for _ in range(_RESAMPLES)])


def quantile(each: np.ndarray, share: float) -> Quantity:
    """Return the quantile of `each`, (N,), at a `share` of the images: the smallest value that it does not exceed.

    The bounds are order statistics, exact for any distribution, and infinite for too few images. The number of images
    below the quantile is binomial (David & Nagaraja 2003, "Order Statistics", section 7.1).
    """
    values, size = np.sort(each), len(each)

    def limits(confidence: float, more: float = 1.0) -> tuple[float, float]:
        from scipy.stats import binom

        n = round(size * more)
        above, below = (
            int(binom.ppf(confidence, n, share)) + 1,
            int(binom.ppf(1 - confidence, n, share)),
        )
        lower, upper = (
            float(values[min(math.ceil(at / n * size), size) - 1]) for at in (below, above)
        )
        return (-math.inf if below < 1 else lower), (math.inf if above > n else upper)

    return Quantity(float(values[max(math.ceil(share * size) - 1, 0)]), size, limits)


def worst(parts: Mapping[str, Quantity], *, least: int = 1) -> Quantity:
    """Return the worst of several groups of images, such as classes, by name.

    A group with fewer than `least` images cannot be proved equal, so the upper bound is that of the others. The lower
    bound covers all groups, which share the error probability. With `more` images, both are of the large groups, if
    any, which then share nothing.
    """
    large = {name: part for name, part in parts.items() if part.n >= least}
    group = max(large or parts, key=lambda name: parts[name].value)

    def limits(confidence: float, more: float = 1.0) -> tuple[float, float]:
        if more != 1:
            grown = [part.limits(confidence, more) for part in (large or parts).values()]
            return max(low for low, _ in grown), max(high for _, high in grown)
        each = 1 - (1 - confidence) / len(parts)
        upper = max((part.limits(confidence)[1] for part in large.values()), default=math.inf)
        return max(part.limits(each)[0] for part in parts.values()), upper

    count = sum(part.n for part in parts.values())
    return Quantity(
        parts[group].value, count, limits, group, len(parts) - len(large), provable=bool(large)
    )


def outcome_of(measured: Quantity, tolerance: float, *, level: float = 1 - CONFIDENCE) -> Outcome:
    """Return the outcome of a quantity at a tolerance; "different" is wrong with a probability of at most `level`."""
    return confidence_limits_of(measured, level=level).outcome(tolerance)


def confidence_limits_of(measured: Quantity, *, level: float = 1 - CONFIDENCE) -> ConfidenceLimits:
    """Return the bounds of a quantity; the lower one is too large with a probability of at most `level`."""
    lower, _ = measured.limits(1 - level)
    _, upper = measured.limits(CONFIDENCE)
    return ConfidenceLimits(float(lower), float(upper), measured.provable)


def least_images(tolerance: float) -> int:
    """Return the number of unchanged images that proves a share below the tolerance, in (0, 1): 4,603 for 0.1%."""
    return math.ceil(math.log(1 - CONFIDENCE) / math.log1p(-tolerance))


def images_needed(measured: Quantity, tolerance: float) -> int | None:
    """Return the approximate number of images that decides whether a quantity, at this value, is within the tolerance.

    None if the two are too close for any realistic number.
    """

    def tells(images: int) -> bool:
        lower, upper = measured.limits(CONFIDENCE, images / measured.n)
        return lower > tolerance if measured.value > tolerance else upper <= tolerance

    low, high = (
        measured.n,
        2 * measured.n,
    )  # Limits by a bootstrap do not narrow steadily, so the first bracket counts.
    while not tells(high):
        low, high = high, 2 * high
        if low > MOST_IMAGES:
            return None
    return low + bisect_left(range(low, high), True, key=tells)  # noqa: FBT003  The first that tells.
