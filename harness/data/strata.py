"""Strata of samples: sizes by Neyman's allocation, the draw, and what sampled images stand for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

LEAST = 30
"""Images of each stratum, if the sample has room for them; fewer tell no variance."""
_BISECTIONS = 100
"""Steps of a bisection, after which its interval is narrower than float64 can tell."""


@dataclass(frozen=True, eq=False)
class Strata:
    """Strata of N sampled images, which say how many images each of them stands for.

    Sampling errors follow from the strata that other models define: a model's own errors vary
    little in strata that they define.

    Attributes:
        of: The stratum of each image, (N,) int64.
        sizes: The number of images in each stratum that the sample is drawn from, (H,) int64.
        unseen: The stratum of each image as other models define it, without the model that is
            measured, (N,) int64.
    """

    of: np.ndarray
    sizes: np.ndarray
    unseen: np.ndarray

    @property
    def images(self) -> int:
        """Return the number of images that the sample stands for."""
        return round(float(self.sizes.sum()))

    @cached_property
    def counts(self) -> np.ndarray:
        """Return the number of sampled images of each stratum, (H,) int64."""
        return np.bincount(self.of, minlength=len(self.sizes))

    @cached_property
    def weights(self) -> np.ndarray:
        """Return the number of images that each sampled one stands for, (N,)."""
        weights_of_strata = self.sizes / np.maximum(self.counts, 1)
        return np.asarray(weights_of_strata[self.of])

    def mean(self, values: np.ndarray) -> float:
        """Return the weighted mean of values, (N,): each stratum counts by its share of images."""
        weighted_sum = self.weights @ values.astype(np.float64)
        return float(weighted_sum / self.weights.sum())

    def variance(self, values: np.ndarray, *, own: bool = False) -> float:
        """Return the variance of the weighted mean of values that is due to sampling alone.

        Args:
            values: A value of each sampled image, (N,), bool or numbers.
            own: Take the variance within the strata of the sample, not within those of other
                models.
        """
        strata_of_images = self.unseen
        if own:
            strata_of_images = self.of
        yes_or_no = values.dtype == np.bool_
        numbers = values.astype(np.float64)

        # Stratified sampling: the sum of W_h^2 S_h^2 (1/n_h - 1/N_h) over the strata h
        # (Cochran 1977, theorem 5.3).
        variance = 0.0
        for stratum in np.flatnonzero(self.counts):
            inside = strata_of_images == stratum
            if not inside.any():
                continue
            within = _variance_within(numbers[inside], self.weights[inside], yes_or_no=yes_or_no)
            share = self.sizes[stratum] / self.images
            not_sampled = 1 / self.counts[stratum] - 1 / self.sizes[stratum]
            variance += share**2 * within * not_sampled
        return float(variance)

    @property
    def heaviest(self) -> float:
        """Return the largest number of other images that a sampled one stands for."""
        return float(self.weights.max() - 1)

    def among(self, chosen: np.ndarray) -> Strata:
        """Return the strata of some sampled images, such as a class; weights stay.

        The sizes of the strata are estimated from the sample.

        Args:
            chosen: Whether an image belongs to them, (N,) bool.
        """
        strata_of_images = self.of[chosen]
        counts = np.bincount(strata_of_images, minlength=len(self.sizes))
        sizes = self.sizes * counts / np.maximum(self.counts, 1)
        return Strata(strata_of_images, sizes, self.unseen[chosen])

    def take(self, positions: np.ndarray) -> Strata:
        """Return the strata of the images at these positions, (M,) int64."""
        return Strata(self.of[positions], self.sizes, self.unseen[positions])


def _variance_within(values: np.ndarray, weights: np.ndarray, *, yes_or_no: bool) -> float:
    """Return the variance of the values of one stratum, (N,) float64."""
    count = len(values)
    mean = np.average(values, weights=weights)
    if yes_or_no:
        # Half a yes and half a no more (Jeffreys), since a few equal values have no variance.
        mean = (mean * count + 0.5) / (count + 1)
        return float(mean * (1 - mean))
    mean_square = np.average(np.square(values - mean), weights=weights)
    return float(mean_square * count / max(count - 1, 1))


def allocation(sizes: np.ndarray, deviations: np.ndarray, n: int) -> np.ndarray:
    """Return the number of images of each stratum for the smallest variance of the mean.

    They are proportional to size times standard deviation (Neyman 1934), at least `LEAST` or half
    of an equal part, and at most all images of a stratum.

    Args:
        sizes: The number of images in each stratum, (H,) int64.
        deviations: The standard deviation in each stratum, (H,).
        n: The number of images of the sample.

    Returns:
        The images of each stratum, (H,) int64, with the sum `n`.
    """
    half_of_equal_part = n // (2 * int(np.count_nonzero(sizes)))
    least = np.minimum(sizes, min(LEAST, half_of_equal_part))
    proportions = sizes * deviations

    # The factor has no closed form, since a minimum or all images bind some strata.
    low = 0.0
    high = float(n + sizes.max()) / max(float(proportions.min()), 1e-12)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if np.clip(middle * proportions, least, sizes).sum() <= n:
            low = middle
        else:
            high = middle

    exact = np.clip(low * proportions, least, sizes)
    quota = np.asarray(np.floor(exact + 1e-9), dtype=np.int64)
    # Largest remainders get the images that rounding down left, in strata with room first.
    remainders = (exact - quota).round(9)
    by_remainder = np.lexsort((-remainders, quota >= sizes))
    quota[by_remainder[: n - quota.sum()]] += 1
    return quota


def draw(of: np.ndarray, quota: np.ndarray, order: np.ndarray, *, seed: int) -> np.ndarray:
    """Return the positions, ascending, of a random sample with a quota of each stratum.

    Within a stratum the draw is systematic along `order`, such as classes, which keep their shares
    there.

    Args:
        of: The stratum of each image, (N,) int64.
        quota: The number of images to draw from each stratum, (H,) int64.
        order: The value of each image that a systematic draw follows, (N,).
        seed: The seed of the draw.
    """
    rng = np.random.default_rng(seed)
    positions = []
    for stratum, count in enumerate(quota):
        members = rng.permutation(np.flatnonzero(of == stratum))
        members = members[np.argsort(order[members], kind="stable")]
        start = rng.random()
        steps = (np.arange(count) + start) * len(members) / max(count, 1)
        positions.append(members[np.floor(steps).astype(np.int64)])
    return np.sort(np.concatenate(positions))
