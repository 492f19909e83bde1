"""Rules that make one number of a profile of deviations.

Each compares networks with the reference models.

A rule takes the values of K reference models, (..., K, checks), and of networks, (..., N, checks),
more being worse. It returns a number for each network, (..., N), more being worse.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from harness.measures.panel.threshold import widened

Shrink = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Profile:
    """Deviations in standard deviations.

    Of the reference models, (..., K, checks), and of networks, (..., N, checks).

    Those of networks are in standard deviations of prediction. `average` (checks, families) makes
    means by family.
    """

    members: np.ndarray
    others: np.ndarray
    average: np.ndarray

    @property
    def models(self) -> int:
        """Return the number of reference models."""
        return int(self.members.shape[-2])


def profile(
    panel: np.ndarray, others: np.ndarray, average: np.ndarray, least: np.ndarray | float = 1e-9
) -> Profile:
    """Return the deviations of networks by the values of reference models.

    `least` is a least standard deviation.
    """
    mean = panel.mean(axis=-2, keepdims=True)
    std = np.maximum(panel.std(axis=-2, ddof=1, keepdims=True), least)
    return Profile((panel - mean) / std, (others - mean) / std / widened(panel.shape[-2]), average)


def plain_mean(found: Profile) -> np.ndarray:
    """Return the mean over the families of their mean deviations."""
    return np.asarray((found.others @ found.average).mean(axis=-1))


def mahalanobis(found: Profile, *, shrink: Shrink) -> np.ndarray:
    """Return the Mahalanobis distance of the families' mean deviations."""
    return np.asarray(np.sqrt(np.square(_whitened(found, shrink)).sum(axis=-1)))


def follmann(found: Profile, *, shrink: Shrink) -> np.ndarray:
    """Return the Mahalanobis distance of networks that are worse in sum, else 0.

    The sum is over families (Follmann 1996).
    """
    worse = (found.others @ found.average).sum(axis=-1) > 0
    return np.where(worse, mahalanobis(found, shrink=shrink), 0.0)


def perlman(found: Profile, *, shrink: Shrink) -> np.ndarray:
    """Return the likelihood ratio distance against the cone without a better family.

    Perlman 1969.
    """
    from scipy.optimize import nnls

    others = found.others @ found.average
    members = found.members @ found.average
    roots = np.linalg.cholesky(np.linalg.inv(shrink(members)))
    flat = others.reshape(-1, *others.shape[-2:])
    distances = np.zeros(flat.shape[:2])
    for at, root in enumerate(roots.reshape(-1, *roots.shape[-2:])):
        for number, each in enumerate(flat[at]):
            target = root.T @ each
            distances[at, number] = np.sqrt(max(target @ target - nnls(root.T, target)[1] ** 2, 0))
    return distances.reshape(others.shape[:-1])


def higher_criticism(found: Profile) -> np.ndarray:
    """Return the higher criticism of the checks' one-sided p-values.

    It is over the smaller half (Donoho & Jin 2004). A p-value counts as at least 1 / checks, since
    the score of the smallest has a heavy tail.
    """
    p = np.sort(_tails(found), axis=-1)
    count = p.shape[-1]
    p, share = np.clip(p, 1 / count, 1 - 1 / count), np.arange(1, count + 1) / count
    score = np.sqrt(count) * (share - p) / np.sqrt(p * (1 - p))
    return np.asarray(score[..., : count // 2].max(axis=-1))


def cauchy(found: Profile, *, sides: int = 1, most: float = 1 - 1e-15) -> np.ndarray:
    """Return the Cauchy combination of the checks' p-values.

    Families weigh the same (Liu & Xie 2020). A p-value counts as at most `most`.
    """
    p = np.clip(_tails(found) if sides == 1 else 2 * _tails(found, absolute=True), 1e-15, most)
    weights = found.average.sum(axis=1) / found.average.sum()
    return np.asarray((np.tan((0.5 - p) * np.pi) * weights).sum(axis=-1))


def without_components(found: Profile, *, count: int, shrink: Shrink) -> np.ndarray:
    """Return the Mahalanobis distance of the profile without its leading components.

    The components are those of the reference models.
    """
    _, sides = np.linalg.eigh(found.members @ np.swapaxes(found.members, -1, -2))
    directions = np.swapaxes(sides[..., -count:], -1, -2) @ found.members
    leading = directions / np.linalg.norm(directions, axis=-1, keepdims=True)

    def left(values: np.ndarray) -> np.ndarray:
        return np.asarray(values - values @ np.swapaxes(leading, -1, -2) @ leading)

    return mahalanobis(
        Profile(left(found.members), left(found.others), found.average), shrink=shrink
    )


def to_no_correlation(values: np.ndarray) -> np.ndarray:
    """Return the covariance of values, (..., K, families), with correlations shrunk to none.

    Schäfer & Strimmer 2005. The variances do not change.
    """
    return _shrunk(values, 0.0)


def to_one_correlation(values: np.ndarray) -> np.ndarray:
    """Return the covariance of values with correlations shrunk to their mean.

    The formula is that of Ledoit & Wolf 2004.
    """
    return _shrunk(values, None)


RULES: Mapping[str, Callable[[Profile], np.ndarray]] = {
    "mean over families": plain_mean,
    "Mahalanobis, correlations shrunk to none": partial(mahalanobis, shrink=to_no_correlation),
    "Mahalanobis, correlations shrunk to their mean": partial(
        mahalanobis, shrink=to_one_correlation
    ),
    "the same, worse in the sum only (Follmann)": partial(follmann, shrink=to_one_correlation),
    "cone of worse families (Perlman)": partial(perlman, shrink=to_one_correlation),
    "higher criticism of rows": higher_criticism,
    "Cauchy combination, one-sided": cauchy,
    "Cauchy combination, two-sided": partial(cauchy, sides=2),
    "one component removed, Mahalanobis": partial(
        without_components, count=1, shrink=to_one_correlation
    ),
    "three components removed, Mahalanobis": partial(
        without_components, count=3, shrink=to_one_correlation
    ),
}
"""The rules that are compared, by their names."""


def _whitened(found: Profile, shrink: Shrink) -> np.ndarray:
    root = np.linalg.cholesky(np.linalg.inv(shrink(found.members @ found.average)))
    return np.asarray((found.others @ found.average) @ root)


def _tails(found: Profile, *, absolute: bool = False) -> np.ndarray:
    from scipy.special import stdtr

    return np.asarray(stdtr(found.models - 1, -np.abs(found.others) if absolute else -found.others))


def _shrunk(values: np.ndarray, target: float | None) -> np.ndarray:
    """Return a covariance with shrunk correlations.

    The target is given, or their mean; their estimated uncertainty decides how far.
    """
    models, families = values.shape[-2:]
    std = values.std(axis=-2, ddof=1, keepdims=True)
    standard = (values - values.mean(axis=-2, keepdims=True)) / std
    products = standard[..., :, :, None] * standard[..., :, None, :]
    correlations = products.sum(axis=-3) / (models - 1)
    uncertainty = (
        models
        / (models - 1) ** 3
        * np.square(products - products.mean(axis=-3, keepdims=True)).sum(axis=-3)
    )
    off = ~np.eye(families, dtype=bool)
    mean = (
        correlations[..., off].mean(axis=-1)[..., None, None]
        if target is None
        else np.full((1, 1), target)
    )
    away = np.square(correlations - mean)[..., off].sum(axis=-1)
    weight = np.clip(uncertainty[..., off].sum(axis=-1) / np.maximum(away, 1e-12), 0, 1)[
        ..., None, None
    ]
    shrunk = weight * mean + (1 - weight) * correlations
    shrunk[..., ~off] = 1.0
    scale = np.swapaxes(std, -1, -2) * std
    return np.asarray(shrunk * scale)
