"""Moderated variances: the variances of few reference models, averaged with a prior.

Three models determine a variance only to within a factor of several. Every check of a panel
therefore has a moderated variance (Smyth 2004, "Linear models and empirical Bayes methods",
section 3):

    variance = (d prior + (K - 1) s^2) / (d + K - 1)

s^2 is the variance of the check's K values, and d are the degrees of freedom of its prior. The
prior comes from the contributions of single images to these values:

    prior = inflation * chance + (SHIFT * loss)^2

- `chance` is the variance of the check if models err independently given the image. For a mean
  over n images, it is the sum of the images' variances over n^2 (Jordan 2023, arXiv:2304.01910).
- `inflation` is the ratio of the real variance to that by chance. It is above 1, because errors on
  similar images are correlated. The checks of a family share it.
- `loss` is the cost of the perturbation against clean images. Under a strong shift, models differ
  in proportion to this cost.

A check whose own spread is far above its prior keeps its own spread alone (after Phipson et al.
2016, "Robust hyperparameter estimation"), and does not count in its family's inflation.

The constants come from fits on the shipped panel, on the safe side, and `benchmarks.few` tests the
rule on other data. A prior by p (1 - p) / n gave wider thresholds and more false alarms, see
"Thresholds from reference models" in docs/decisions.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

INFLATION = 1.6
"""Inflation that is usual: the ratio of the variance of a family's checks to that by chance.

The fits are of one recipe, and recipes differ more: with 2,000 images, the ratio was 1.0 to 2.8
(`benchmarks.few`).
"""
INFLATION_DF = 8.0
"""Degrees of freedom of the usual inflation."""
CHECK_DF = 12.0
"""Degrees of freedom of the prior of a check without a shift; fits of one recipe gave 37 to 44.

Networks of other recipes differ by more (`benchmarks.few`, case `shapes`).
"""
SHIFT = 0.074
"""Standard deviation of models under a shift, as a share of the loss that the shift causes."""
SHIFT_DF = 3.0
"""Degrees of freedom of that share; fits gave 3.4."""
INDEPENDENT = 3.0
"""Number of independent checks, at most, that a family counts as in the estimate of its inflation.

The values of its checks are correlated, so many of them tell little more than a few.
"""
CONTRADICTED = 0.001
"""Probability of a spread under its prior below which it contradicts the prior."""
_TINY_DF = 1e-9
"""Degrees of freedom in place of 0, which one model without a prior has, in a denominator."""
_STEPS = 10
"""Steps of the search for multipliers; with few degrees of freedom, six are enough for 1%."""


@dataclass(frozen=True, eq=False)
class ModeratedVariances:
    """The moderated variances of a family's checks, and the degrees of freedom behind them.

    Attributes:
        variance: Moderated variance of each check on its scale, (checks,).
        prior_df: Degrees of freedom of each check's prior, (checks,); 0 without a prior.
        inflated_share: Share of each prior that grows with the family's inflation, (checks,).
        inflation_df: Degrees of freedom of the family's inflation.
    """

    variance: np.ndarray
    prior_df: np.ndarray
    inflated_share: np.ndarray
    inflation_df: float

    def df(self, reference_models: int) -> np.ndarray:
        """Return the degrees of freedom of each check's t distribution, (checks,).

        Satterthwaite's approximation: relative variances of independent factors add up, and an
        estimate with d degrees of freedom has the relative variance 2 / d. One factor is the
        check's own variance, the other is the family's inflation, which affects a part of it.
        """
        own_df = self._own_df(reference_models)
        sensitivity = self._sensitivity(reference_models)
        return np.asarray(
            1 / (1 / np.maximum(own_df, _TINY_DF) + sensitivity**2 / self.inflation_df)
        )

    def multipliers(
        self, shares: np.ndarray, reference_models: int, sharing: Sequence[int]
    ) -> np.ndarray:
        """Return the multiplier k of each check, (checks,).

        With these multipliers, one more reference model fails any of the checks `sharing` with a
        probability that is the sum of their shares, to about 1% of it.

        Args:
            shares: The share of false alarms of each check, (checks,).
            reference_models: The number K of models behind the variances.
            sharing: The positions of the checks whose shares add up to that of the family.

        Returns:
            The quantiles of t distributions with the degrees of freedom `df`. The checks `sharing`
            have larger tail probabilities than their shares, all by one factor. The inflation is
            common to them, so its error makes them fail together, and Bonferroni's correction
            would count that error once per check.
        """
        from scipy.special import stdtr, stdtrit

        own_df = np.maximum(self._own_df(reference_models), 1)[sharing]
        sensitivity = self._sensitivity(reference_models)[sharing]
        t_df = np.maximum(self.df(reference_models), 1)
        inflation, weights = _inflation_quadrature(self.inflation_df)
        # True standard deviation over the estimated one, (inflations, checks).
        std_ratio = np.sqrt(1 + sensitivity * (inflation[:, None] - 1))
        family_share = shares[sharing].sum()

        tails = shares
        for _ in range(_STEPS):
            quantiles = stdtrit(t_df[sharing], tails[sharing])
            # Given the inflation, checks count as independent. Correlation makes failures rarer.
            failing = stdtr(own_df, quantiles / std_ratio)
            any_failing_given_inflation = -np.expm1(np.log1p(-failing).sum(axis=1))
            any_failing = float(weights @ any_failing_given_inflation)
            # That probability is nearly proportional to the tails, so few steps are enough.
            tails = np.minimum(tails * family_share / any_failing, 0.5)
        return np.asarray(-stdtrit(t_df, tails))

    def _own_df(self, reference_models: int) -> np.ndarray:
        """Return the degrees of freedom of each check's variance, given the inflation."""
        return self.prior_df + reference_models - 1

    def _sensitivity(self, reference_models: int) -> np.ndarray:
        """Return the share of each check's moderated variance that grows with the inflation."""
        own_df = np.maximum(self._own_df(reference_models), _TINY_DF)
        return np.asarray(self.prior_df * self.inflated_share / own_df)


@cache
def _inflation_quadrature(df: float, nodes: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Return true inflations over the estimated one, and their weights, both (nodes,).

    An estimate with d degrees of freedom is the true inflation times chi-square(d) / d. The nodes
    are evenly spaced on the logarithm of chi-square. They reach farther down than up, because a
    small chi-square means a large inflation, with which many checks fail.
    """
    from scipy.stats import chi2

    log_deviations = np.linspace(-12, 6, nodes)
    squares = df * np.exp(log_deviations * np.sqrt(2 / df))
    # The density of a logarithm is that of the variable times the variable.
    weights = chi2.pdf(squares, df) * squares
    return df / squares, weights / weights.sum()


def moderated_variances(
    values: np.ndarray, chance: np.ndarray, loss: np.ndarray
) -> ModeratedVariances:
    """Return the moderated variances of the checks of one family.

    Args:
        values: Values of the checks, (K, checks). One model has the prior only.
        chance: Variance of each check by chance, (checks,); NaN if unknown.
        loss: Loss of each check against clean images, (checks,); 0 without a perturbation.
    """
    df = len(values) - 1
    variance = np.zeros(values.shape[1])
    if df:
        variance = values.var(axis=0, ddof=1)
    has_chance = chance > 0
    chance = np.where(has_chance, chance, 1.0)
    by_shift = np.square(SHIFT * loss)

    usual = INFLATION * chance
    contradicted = _contradicted(variance, df, usual + by_shift, _prior_df(usual, by_shift))
    # Where the shift dominates the prior, the spread tells little about the inflation.
    little_shift = by_shift < 0.5 * usual
    telling = has_chance & ~contradicted & little_shift
    inflation, inflation_df = _family_inflation((variance / chance)[telling], df)

    inflated_chance = inflation * chance
    prior = inflated_chance + by_shift
    prior_df = _prior_df(inflated_chance, by_shift)
    has_prior = has_chance & ~_contradicted(variance, df, prior, prior_df)
    prior_df = np.where(has_prior, prior_df, 0.0)
    return ModeratedVariances(
        # Smyth 2004, section 3.
        variance=(prior_df * prior + df * variance) / np.maximum(prior_df + df, _TINY_DF),
        prior_df=prior_df,
        inflated_share=inflated_chance / prior,
        inflation_df=inflation_df,
    )


def _family_inflation(ratios: np.ndarray, df: int) -> tuple[float, float]:
    """Return the inflation of a family, and its degrees of freedom.

    It is the mean of the usual inflation and that of the family, by their degrees of freedom.

    Args:
        ratios: Variance over the variance by chance of each check that tells it, (telling,).
        df: Degrees of freedom of each of these variances.
    """
    independent_checks = min(float(len(ratios)), INDEPENDENT)
    family_df = independent_checks * df
    family_inflation = 0.0
    if family_df:
        family_inflation = float(ratios.mean())

    total_df = INFLATION_DF + family_df
    inflation = (INFLATION_DF * INFLATION + family_df * family_inflation) / total_df
    return inflation, total_df


def _contradicted(
    variance: np.ndarray, df: int, prior: np.ndarray, prior_df: np.ndarray
) -> np.ndarray:
    """Return which variances are too large for their priors, (checks,) bool, by an F test."""
    from scipy.stats import f

    if not df:
        return np.zeros(len(variance), dtype=bool)
    return np.asarray(f.sf(variance / prior, df, prior_df) < CONTRADICTED)


def _prior_df(inflated_chance: np.ndarray, by_shift: np.ndarray) -> np.ndarray:
    """Return the degrees of freedom of priors from the two variances that add up to them.

    Satterthwaite's approximation, as in `ModeratedVariances.df`: the shares of the prior are
    squared, since each part has an error of its own.
    """
    inflated_share = inflated_chance / (inflated_chance + by_shift)
    return np.asarray(1 / (inflated_share**2 / CHECK_DF + (1 - inflated_share) ** 2 / SHIFT_DF))
