"""Strata of samples: sizes by Neyman's allocation, the draw, and what each image of a sample stands for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

LEAST = 30
"""Images of each stratum, if the sample has room for them; fewer tell no variance."""


@dataclass(frozen=True, eq=False)
class Strata:
    """Strata of N sampled images: the stratum `of` each, (N,) int64, and the `sizes` of all strata, (H,) int64.

    `sizes` count the images that the sample is drawn from. `unseen` are the strata of the images as other models
    define them, without the one that is measured. Sampling errors follow from these: a model's own errors vary little
    in strata that they define.
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
        return np.asarray((self.sizes / np.maximum(self.counts, 1))[self.of])

    def mean(self, values: np.ndarray) -> float:
        """Return the weighted mean of values, (N,): the sum over strata of their share times their mean."""
        return float(self.weights @ values.astype(np.float64) / self.weights.sum())

    def variance(self, values: np.ndarray, *, own: bool = False) -> float:
        """Return the variance of the weighted mean by sampling alone, the sum of W_h^2 S_h^2 (1/n_h - 1/N_h).

        S_h^2 is the variance within the strata of other models, or within those of the sample if `own`. Each stratum
        of yes-or-no values counts half a yes and half a no more (Jeffreys), since a few equal values have no variance.
        """
        of, weights, yes_or_no = (
            self.of if own else self.unseen,
            self.weights,
            values.dtype == np.bool_,
        )
        total, values = 0.0, values.astype(np.float64)
        for stratum in np.flatnonzero(self.counts):
            inside = of == stratum
            if (n := int(inside.sum())) == 0:
                continue
            share, left = (
                self.sizes[stratum] / self.images,
                1 / self.counts[stratum] - 1 / self.sizes[stratum],
            )
            mean = np.average(values[inside], weights=weights[inside])
            within = (
                np.average(np.square(values[inside] - mean), weights=weights[inside])
                * n
                / max(n - 1, 1)
            )
            if yes_or_no:
                mean = (mean * n + 0.5) / (n + 1)
                within = mean * (1 - mean)
            total += share**2 * within * left
        return float(total)

    @property
    def heaviest(self) -> float:
        """Return the largest number of other images that a sampled one stands for."""
        return float(self.weights.max() - 1)

    def among(self, chosen: np.ndarray) -> Strata:
        """Return the strata of some sampled images, (N,) bool, such as a class, with estimated sizes; weights stay."""
        of = self.of[chosen]
        sizes = self.sizes * np.bincount(of, minlength=len(self.sizes)) / np.maximum(self.counts, 1)
        return Strata(of, sizes, self.unseen[chosen])

    def take(self, positions: np.ndarray) -> Strata:
        """Return the strata of the images at these positions, (M,) int64."""
        return Strata(self.of[positions], self.sizes, self.unseen[positions])


def allocation(sizes: np.ndarray, deviations: np.ndarray, n: int) -> np.ndarray:
    """Return the images of each stratum, (H,) int64 with sum n, for the smallest variance of the mean (Neyman 1934).

    They are proportional to size times standard deviation, at least `LEAST` or half of an equal part, and at most all.
    """
    least = np.minimum(sizes, min(LEAST, n // (2 * int(np.count_nonzero(sizes)))))
    wanted = sizes * deviations
    low, high = 0.0, float(n + sizes.max()) / max(float(wanted.min()), 1e-12)
    for _ in range(100):  # Bisection of the factor, since a minimum or all images bind some strata.
        middle = (low + high) / 2
        low, high = (
            (middle, high) if np.clip(middle * wanted, least, sizes).sum() <= n else (low, middle)
        )
    exact = np.clip(low * wanted, least, sizes)
    found = np.asarray(np.floor(exact + 1e-9), dtype=np.int64)
    room = np.lexsort((-(exact - found).round(9), found >= sizes))
    found[room[: n - found.sum()]] += 1
    return found


def draw(of: np.ndarray, quota: np.ndarray, order: np.ndarray, *, seed: int) -> np.ndarray:
    """Return positions, ascending, of `quota` images of each stratum, (H,); `of` is the stratum of each image, (N,).

    Within a stratum the draw is systematic along `order`, (N,), such as classes, which keep their shares there.
    """
    rng, chosen = np.random.default_rng(seed), []
    for stratum, n in enumerate(quota):
        members = rng.permutation(np.flatnonzero(of == stratum))
        members, start = members[np.argsort(order[members], kind="stable")], rng.random()
        chosen.append(
            members[np.floor((np.arange(n) + start) * len(members) / max(n, 1)).astype(np.int64)]
        )
    return np.sort(np.concatenate(chosen))
