"""Moderated variances: standard deviations of few reference models borrow strength across checks and from images.

Suppose that reference models err independently given the image. The variance of a mean over n images is then the sum of
the images' variances over n^2 (Jordan 2023, arXiv:2304.01910). But errors on similar images and under strong shift are
correlated. So

    prior = inflation * chance + (SHIFT * loss)^2,

with an inflation that the checks of a family share, and the loss against clean images. The moderated variance is
(d prior + (K - 1) s^2) / (d + K - 1) (Smyth 2004, "Linear models and empirical Bayes methods", section 3). The prior is
worth d degrees of freedom, fewer if the shift dominates it. A check has none if its own spread is far above it (after
Phipson et al. 2016, "Robust hyperparameter estimation"), and then it says nothing about the others' inflation either.
The constants come from fits on the shipped panel, on the safe side; `benchmarks.few` tests the rule on other data.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

INFLATION, INFLATION_DF = 1.6, 8.0
"""Ratio of the variance of a family's checks to the variance by chance, and its degrees of freedom.

The fits are of one recipe. Recipes differ more: with 2,000 images, the ratio was 1.0 to 2.8 (`benchmarks.few`).
"""
CHECK_DF = 12.0
"""Degrees of freedom of the prior of a check without shift; fits of one recipe gave 30 to 45."""
SHIFT, SHIFT_DF = 0.074, 3.0
"""Difference of reference models as a share of the loss by a shift, and its degrees of freedom; fits gave 3.4."""
INDEPENDENT = 3.0
"""Most independent checks that a family counts as in the estimate of its inflation."""
_STEPS = 10
"""Steps that find the multipliers; with few degrees of freedom, six are enough for 1%."""
CONTRADICTED = 0.001
"""Probability of a spread under its prior below which it contradicts the prior."""


@dataclass(frozen=True, eq=False)
class Moderated:
    """Moderated variance of each check, (checks,), and the parts of its degrees of freedom.

    `worth` are the degrees of freedom of the check's prior, 0 without one. `by_chance` is the part of the prior that
    grows with the family's inflation, and `inflation_df` are the degrees of freedom of that inflation.
    """

    variance: np.ndarray
    worth: np.ndarray
    by_chance: np.ndarray
    inflation_df: float

    def df(self, reference_models: int) -> np.ndarray:
        """Return the degrees of freedom of each check's t distribution, (checks,), by Satterthwaite's approximation.

        Both the check's own variance and the family's inflation are uncertain.
        """
        known, shared = self._degrees(reference_models)
        return np.asarray(1 / (1 / np.maximum(known, 1e-9) + shared**2 / self.inflation_df))

    def multipliers(
        self, shares: np.ndarray, reference_models: int, sharing: Sequence[int]
    ) -> np.ndarray:
        """Return the multiplier k of each check, (checks,), from its share of false alarms, (checks,).

        One more reference model then fails any of the checks at the positions `sharing` with the sum of their shares,
        to about 1%. Given the inflation, the checks count as independent, each with its own t distribution; correlation
        makes failures rarer. A quadrature averages over the inflation.
        """
        from scipy.special import stdtr, stdtrit

        known, shared = self._degrees(reference_models)
        known = np.maximum(known, 1)[sharing]
        inflation, weights = _inflations(self.inflation_df)
        # Standard deviation of each check in units of the estimated one.
        std = np.sqrt(1 + shared[sharing] * (inflation[:, None] - 1))
        df = np.maximum(self.df(reference_models), 1)
        wanted = shares[sharing].sum()
        tails = shares
        for _ in range(
            _STEPS
        ):  # The probability of any failure is nearly proportional to that of each.
            missing = stdtr(known, stdtrit(df[sharing], tails[sharing]) / std)
            any_missing = float(weights @ -np.expm1(np.log1p(-missing).sum(axis=1)))
            tails = np.minimum(tails * wanted / any_missing, 0.5)
        return np.asarray(-stdtrit(df, tails))

    def _degrees(self, reference_models: int) -> tuple[np.ndarray, np.ndarray]:
        known = self.worth + reference_models - 1
        shared = self.worth * self.by_chance / np.maximum(known, 1e-9)
        return known, shared


@cache
def _inflations(df: float, nodes: int = 32) -> tuple[np.ndarray, np.ndarray]:
    from scipy.stats import chi2

    deviations = np.linspace(
        -12, 6, nodes
    )  # Deviations of the logarithm; a small sum of squares is a large inflation.
    squares = df * np.exp(deviations * np.sqrt(2 / df))
    weights = chi2.pdf(squares, df) * squares
    return df / squares, weights / weights.sum()


def moderated(values: np.ndarray, chance: np.ndarray, loss: np.ndarray) -> Moderated:
    """Return the moderated variances of the checks of one family.

    `values`, (K, checks), are those of K models. `chance`, (checks,), is the variance of each check by chance alone,
    NaN if unknown. `loss`, (checks,), is the loss of each check against clean images, 0 without a perturbation. All are
    on one scale. A single model has only the prior.
    """
    from scipy.stats import f

    nu = len(values) - 1
    own = values.var(axis=0, ddof=1) if nu else np.zeros(values.shape[1])
    known = chance > 0
    chance, moved = np.where(known, chance, 1.0), np.square(SHIFT * loss)

    def contradicts(variance: np.ndarray, prior: np.ndarray, worth: np.ndarray) -> np.ndarray:
        if not nu:
            return np.zeros_like(known)
        return np.asarray(f.sf(variance / prior, nu, worth) < CONTRADICTED)

    usual = INFLATION * chance
    odd = contradicts(own, usual + moved, _worth(usual, moved))
    # Checks under a strong shift say little about the inflation.
    tells = known & ~odd & (moved < 0.5 * usual)
    telling = min(float(tells.sum()), INDEPENDENT)
    own_df = telling * nu
    own_inflation = float((own / chance)[tells].mean()) if own_df else 0.0
    inflation_df = INFLATION_DF + own_df
    inflation = (INFLATION_DF * INFLATION + own_df * own_inflation) / inflation_df

    by_family = inflation * chance
    prior = by_family + moved
    worth = _worth(by_family, moved)
    worth = np.where(known & ~contradicts(own, prior, worth), worth, 0.0)
    variance = (worth * prior + nu * own) / np.maximum(worth + nu, 1e-9)
    return Moderated(variance, worth, by_family / prior, inflation_df)


def _worth(by_chance: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """Return the degrees of freedom of priors with these variances by chance and by a shift."""
    share = by_chance / (by_chance + moved)
    return np.asarray(1 / (share**2 / CHECK_DF + (1 - share) ** 2 / SHIFT_DF))
