"""Standard deviations of rows that few retrains tell of, which borrow strength, and how far each is to be trusted.

Of three networks a standard deviation is known to a factor of several. Of their answers about thousands of images it is
known well how far chance alone would move a row: if healthy networks erred independently given the image, the variance
of a mean over n images were the sum of the images' own variances over n^2 (Jordan 2023, arXiv:2304.01910). They do not
quite: images of one kind go together, and under strong shift whole networks do. So

    prior = inflation * chance + (SHIFT * loss)^2,

with an inflation that the rows of a family share, and the loss against the images as they are. The variance that
counts is the moderated one (Smyth 2004, "Linear models and empirical Bayes methods", section 3),
(d prior + (K - 1) s^2) / (d + K - 1), where d is how many degrees of freedom the prior is worth: fewer where it is
mostly what shift may do. Rows whose own spread contradicts the prior have none (after Phipson et al. 2016, "Robust
hyperparameter estimation"), and gate by that alone if the retrains are enough. One that lies far below keeps its
prior: of many rows some always do.

The constants were set from fits on the shipped panel, on the safe side of what was found; `benchmarks.few` says what
else was decided by looking at it, and holds the rule against data that had no part in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

INFLATION, INFLATION_DF = 1.6, 16.0
"""By how much more than chance the rows of a family vary, and how many degrees of freedom this is worth."""
ROW_DF = 16.0
"""What the prior of a row is worth that no shift moves; found were 30 to 45."""
SHIFT, SHIFT_DF = 0.074, 3.0
"""The share of what a shift costs by which healthy networks differ, and its worth; found were 0.074 and 3.4."""
INDEPENDENT = 3.0
"""As how many rows those of a family count, at most, when they tell the inflation: they go together."""
FEW = 8
"""Retrains from which on their own spread makes a gate; with fewer a row needs a prior."""
CONTRADICTED = 0.001
"""How likely a spread may be under its prior to be taken for a contradiction."""


@dataclass(frozen=True, eq=False)
class Moderated:
    """Each row's variance, (rows,), and what its degrees of freedom follow from.

    `worth` are those of the row's prior, 0 where there is none; `by_chance` is the part of the prior that goes with the
    family's inflation, and `telling` as how many rows tell that.
    """

    variance: np.ndarray
    worth: np.ndarray
    by_chance: np.ndarray
    telling: float

    def df(self, retrains: int) -> np.ndarray:
        """Return the degrees of freedom of each row's t distribution, (rows,), by Satterthwaite's approximation.

        What is not known is the row's own variance and, shared with its family, the inflation.
        """
        known, shared, inflation_df = self._degrees(retrains)
        return np.asarray(1 / (1 / np.maximum(known, 1e-9) + shared**2 / inflation_df))

    def multipliers(self, share: float, retrains: int, sharing: Sequence[int]) -> np.ndarray:
        """Return how many standard deviations each row's bound lies off, (rows,), so that a family keeps its `share`.

        One more healthy retrain then misses any of the rows at the positions `sharing` so often, each as often as the
        others, to a hundredth. Given the inflation of their family rows are taken for independent, each with a t
        distribution of its own; that they go together makes misses rarer. The mean over what the inflation may be is
        by quadrature. Bonferroni's equal parts would count the inflation's doubt once for each row.
        """
        from scipy.special import stdtr, stdtrit

        known, shared, inflation_df = self._degrees(retrains)
        known = np.maximum(known, 1)[sharing]
        inflation, weights = _inflations(inflation_df)
        std = np.sqrt(1 + shared[sharing] * (inflation[:, None] - 1))  # Of each row, in units of the one that is known.
        df, each = np.maximum(self.df(retrains), 1), share / len(sharing)
        for _ in range(3):  # The chance of any is nearly in proportion to that of each.
            missing = stdtr(known, stdtrit(df[sharing], each) / std)
            any_missing = float(weights @ -np.expm1(np.log1p(-missing).sum(axis=1)))
            each = min(each * share / any_missing, 0.5)
        return np.asarray(-stdtrit(df, each))

    def _degrees(self, retrains: int) -> tuple[np.ndarray, np.ndarray, float]:
        """Return the degrees of freedom of each row's own variance, the inflation's part in it, and the inflation's."""
        nu = retrains - 1
        known = self.worth + nu
        shared = self.worth * self.by_chance / np.maximum(known, 1e-9)
        return known, shared, INFLATION_DF + self.telling * nu


@cache
def _inflations(df: float, nodes: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Return what the inflation may be, in units of the one found, and how likely: df over chi-squared with df."""
    from scipy.stats import chi2

    deviations = np.linspace(-12, 6, nodes)  # Of the logarithm; a small sum of squares is a large inflation.
    squares = df * np.exp(deviations * np.sqrt(2 / df))
    weights = chi2.pdf(squares, df) * squares
    return df / squares, weights / weights.sum()


def moderated(values: np.ndarray, chance: np.ndarray, loss: np.ndarray) -> Moderated:
    """Return the moderated variances of the rows of one family.

    `values` are those of K retrains, (K, rows); `chance` is the variance of each row by chance alone, (rows,), NaN
    where it is not known; `loss` is by how much each row is worse than on images as they are, (rows,), 0 where nothing
    moves the images. All are on one scale. Of a single network nothing but the prior is known.
    """
    from scipy.stats import f

    nu = len(values) - 1
    own = values.var(axis=0, ddof=1) if nu else np.zeros(values.shape[1])
    known = chance > 0
    chance, moved = np.where(known, chance, 1.0), np.square(SHIFT * loss)
    # Rows that a shift moves tell little of the inflation.
    tells = known & (moved < 0.5 * INFLATION * chance)
    telling = min(float(tells.sum()), INDEPENDENT)
    found = float((own / chance)[tells].mean()) if telling else 0.0
    if nu and telling and f.sf(found / INFLATION, telling * nu, INFLATION_DF) < CONTRADICTED:
        known, telling = np.zeros_like(known), 0.0
    inflation = (INFLATION_DF * INFLATION + telling * nu * found) / (INFLATION_DF + telling * nu)
    prior = inflation * chance + moved
    by_chance = inflation * chance / prior
    worth = 1 / (by_chance**2 / ROW_DF + (1 - by_chance) ** 2 / SHIFT_DF)
    if nu:
        known = known & (f.sf(own / prior, nu, worth) >= CONTRADICTED)
    worth = np.where(known, worth, 0.0)
    variance = (worth * prior + nu * own) / np.maximum(worth + nu, 1e-9)
    return Moderated(variance, worth, by_chance, telling)
