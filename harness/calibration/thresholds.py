"""Decision rule: thresholds with a known probability of false alarms.

A threshold is the end of a one-sided prediction interval for one more reference model (Hahn &
Meeker 1991, section 4.8). For a minimum it is

    threshold = mean - k s sqrt(1 + 1/K)

with the mean and the standard deviation s of K reference models on the same images. For a maximum,
the sign is plus. `harness.measures.panel.threshold` computes this formula, and this module
determines s and k.

- s follows from moderated variances, see `harness.calibration.moderated_variance`.
- k is a quantile of Student's t distribution. A healthy model fails any check with a probability of
  at most 1%, which `harness.calibration.shares` divides among families and checks.

Candidate and reference models see the same images, so the formula has no binomial term for images
drawn anew. A binomial interval would allow too much on clean images and too little under stress,
see "Thresholds from reference models" in docs/decisions.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from harness.base.errors import PanelError
from harness.calibration.moderated_variance import INFLATION, moderated_variances
from harness.calibration.shares import parts_of, share_of
from harness.measures import METRICS, Unit, never_judged
from harness.measures.panel.threshold import (
    CONTRADICTED,
    FEW,
    PROVISIONAL,
    Calibrated,
    least_of,
    off_scale,
    on_scale,
    on_scales,
    widened,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.calibration.moderated_variance import ModeratedVariances
    from harness.calibration.panel import Chance, Panel
    from harness.measures.panel.threshold import PanelCheck

OUTLIER_SHARE = 0.001
"""Probability that a panel without an outlier has an outlying check."""
MANY = 0.1
"""Share of outlying checks from which on a model belongs to no panel."""
MANY_AT_LEAST = 3
"""Number of outlying checks, at least, of a model that belongs to no panel."""


# Thresholds.


def multiplier(share: float | np.ndarray, *, reference_models: int) -> float | np.ndarray:
    """Return the k with which one more reference model fails a check with this probability.

    It is the quantile of Student's t distribution with K - 1 degrees of freedom. The checks of a
    family divide its share (Bonferroni). Correlated checks fail together, so the probability that
    any of them fails is smaller than the family's share. In the far tails of t distributions, the
    difference is small: for the families of the shipped panel, the exact k is at most 0.4% smaller.
    For 40 checks, it is 0.9% smaller if they correlate by 0.6, and 10% if they correlate by 0.9.

    Args:
        share: The check's share of false alarms, or an array with those of several checks.
        reference_models: The number K of models behind the mean and the standard deviation.
    """
    from scipy.stats import t

    k: float | np.ndarray = t.isf(share, reference_models - 1)
    return k


def thresholds_of(
    panel: Panel, *, by_hand: frozenset[str] = frozenset(), reference_models: int | None = None
) -> list[Calibrated]:
    """Return a threshold for each check of the panel, in its order.

    Args:
        panel: The reference models and their values.
        by_hand: Ids of checks with a threshold by hand. They have no part in their family's share
            of false alarms, and neither have informational checks.
        reference_models: The number of models to plan for, with the spread of the panel; by default
            that of the panel.
    """
    outlying = outliers(panel).checks
    by_id: dict[str, Calibrated] = {}
    for family in panel.families:
        thresholds = family_thresholds(
            panel,
            panel.family(family),
            by_hand=by_hand,
            outlying=outlying,
            reference_models=reference_models,
        )
        for calibrated in thresholds:
            by_id[calibrated.check.id] = calibrated
    return [by_id[check.id] for check in panel.checks]


def family_thresholds(
    panel: Panel,
    checks: tuple[PanelCheck, ...],
    *,
    by_hand: frozenset[str] = frozenset(),
    outlying: Mapping[str, str] | None = None,
    reference_models: int | None = None,
) -> list[Calibrated]:
    """Return the thresholds of the checks of one family.

    Args:
        panel: The reference models and their values.
        checks: All checks of the family.
        by_hand: Ids of checks with a threshold by hand, see `thresholds_of`.
        outlying: For the id of each check with an outlier among the models, the reason.
        reference_models: The number of models to plan for, see `thresholds_of`.
    """
    values = panel.values(checks)
    outlying = outlying or {}

    def thresholds_if(sharing: tuple[PanelCheck, ...]) -> list[Calibrated]:
        thresholds = shared_thresholds(
            panel, checks, sharing, values, reference_models=reference_models
        )
        return [_with_facts(calibrated, panel, outlying) for calibrated in thresholds]

    # Whether a check judges follows from its threshold, and its threshold from the checks that
    # share with it. First all share; then the share is divided again, among those that judge.
    if_all_share = thresholds_if(checks)
    judging = tuple(
        calibrated.check
        for calibrated in if_all_share
        if _judges(calibrated, panel_size=len(values), by_hand=by_hand)
    )
    if not judging or judging == checks:
        return if_all_share

    if_judging_share = thresholds_if(judging)
    thresholds = []
    for first, second in zip(if_all_share, if_judging_share, strict=True):
        # An informational check has no part in the second division and keeps its first threshold.
        if first.informational:
            thresholds.append(first)
        else:
            thresholds.append(second)
    return thresholds


def _with_facts(calibrated: Calibrated, panel: Panel, outlying: Mapping[str, str]) -> Calibrated:
    """Return a threshold with the facts that may make its check informational."""
    check = calibrated.check
    return replace(calibrated, outlier=outlying.get(check.id, ""), at_chance=panel.at_chance(check))


def _judges(calibrated: Calibrated, *, panel_size: int, by_hand: frozenset[str]) -> bool:
    """Return whether a threshold of the panel decides about a candidate."""
    # One or two models without a prior give no estimate, whatever number of models a plan assumes.
    if not calibrated.prior and panel_size < PROVISIONAL:
        return False
    return not calibrated.informational and calibrated.check.id not in by_hand


def shared_thresholds(
    panel: Panel,
    checks: tuple[PanelCheck, ...],
    sharing: tuple[PanelCheck, ...],
    values: np.ndarray,
    *,
    reference_models: int | None = None,
) -> list[Calibrated]:
    """Return thresholds for the checks of one family, whose share some of them divide.

    Args:
        panel: The panel with the variances by chance, and with all families.
        checks: All checks of the family.
        sharing: The checks whose shares of false alarms add up to that of the family.
        values: Values of K reference models, (K, checks).
        reference_models: The number of models to plan for, see `thresholds_of`.
    """
    variances = variances_of(panel, checks, values)
    spreads = standard_deviations(variances, values, checks)
    count = reference_models or len(values)
    ks = _multipliers(panel, checks, sharing, variances, reference_models=count)

    thresholds = []
    for at, check in enumerate(checks):
        check_values = values[:, at]
        has_prior = bool(variances.prior_df[at] > 0)
        centre = float(on_scale(check_values, check.scale).mean())
        spread = float(spreads[at])
        std = spread
        if check.scale == "root":
            std = _std_of_counts(check_values, centre, spread, has_prior=has_prior)
        thresholds.append(
            Calibrated(
                check,
                mean=float(check_values.mean()),
                std=std,
                centre=centre,
                spread=spread,
                k=float(ks[at]),
                reference_models=count,
                prior=has_prior,
            )
        )
    return thresholds


def _multipliers(
    panel: Panel,
    checks: tuple[PanelCheck, ...],
    sharing: tuple[PanelCheck, ...],
    variances: ModeratedVariances,
    *,
    reference_models: int,
) -> np.ndarray:
    """Return the multiplier k of each check of a family, (checks,), see `shared_thresholds`."""
    judging_families = [check.family for check in panel.checks if not never_judged(check.metric)]
    family_share = share_of(checks[0].family, judging_families)
    shares = family_share * parts_of(checks, sharing)

    # Without a prior, no common inflation connects the checks, and the closed form is exact enough.
    if reference_models >= FEW and not variances.prior_df.any():
        return np.asarray(multiplier(shares, reference_models=reference_models))

    sharing_ids = {check.id for check in sharing}
    positions = [at for at, check in enumerate(checks) if check.id in sharing_ids]
    return variances.multipliers(shares, reference_models, positions)


def _std_of_counts(counts: np.ndarray, centre: float, spread: float, *, has_prior: bool) -> float:
    """Return the standard deviation of counts, in images, by their mean and spread as roots.

    With a prior, it is half of the distance between the counts one standard deviation below and
    above the mean on the scale of roots. Otherwise it is that of the counts themselves.
    """
    if not has_prior:
        return float(counts.std(ddof=1))
    low = off_scale(centre - spread, "root")
    high = off_scale(centre + spread, "root")
    return (high - low) / 2


# Variances.


def variances_of(
    panel: Panel, checks: Sequence[PanelCheck], values: np.ndarray
) -> ModeratedVariances:
    """Return the moderated variances of the checks of one family, each on the check's scale.

    Args:
        panel: The panel with the variances by chance.
        checks: The checks of the family.
        values: Values of K reference models, (K, checks), in the units of the checks.
    """
    means = values.mean(axis=0)
    chance = np.full(len(checks), np.nan)
    loss = np.zeros(len(checks))
    hidden = np.zeros(len(checks))
    for at, check in enumerate(checks):
        recorded = panel.chance.get(check.id)
        # The scores of sound models may differ by far more than chance, and the inflation of
        # accuracies does not hold for them: see `benchmarks/scores`.
        if not panel.scored:
            chance[at] = _chance_on_scale(check, recorded, means[at], reference_models=len(values))
        if recorded is None:
            continue

        hidden[at] = recorded.hidden
        has_prior = not np.isnan(chance[at])
        if has_prior and check.scale == "plain" and recorded.rest is not None:
            loss[at] = max(check.sign * (recorded.rest - means[at]), 0.0)

    variances = moderated_variances(on_scales(values, checks), chance, loss)
    # Reference models define the strata of a sample by their own errors. This hides a part of the
    # variance by sampling, which the value of one more model has.
    return replace(variances, variance=variances.variance + hidden)


def _chance_on_scale(
    check: PanelCheck, recorded: Chance | None, mean: float, *, reference_models: int
) -> float:
    """Return the variance of a check by chance on its scale; NaN where it is no prior."""
    if check.scale == "root":
        return _chance_of_roots(recorded, mean, reference_models=reference_models)
    if recorded is None:
        return np.nan
    if recorded.answers:
        # Models that agree on all images of a small class would disagree on others, on about one
        # image as in `least_of`. With the usual inflation, this prior has that variance.
        least = 1 / check.n
        if check.unit is Unit.IMAGES:
            least = 1.0
        return max(recorded.variance, least**2 / INFLATION)
    # One or two models do not show the variances of contributions other than yes or no.
    if reference_models < PROVISIONAL:
        return np.nan
    return recorded.variance


def _chance_of_roots(recorded: Chance | None, mean: float, *, reference_models: int) -> float:
    """Return the variance of 2 sqrt(count + 3/8) by chance; NaN where it is no prior."""
    if recorded is None:
        # Poisson counts have this variance on the scale of roots (Anscombe 1948). Models enough for
        # their own spread do not need the assumption.
        return 1.0 if reference_models < FEW else np.nan
    if not recorded.answers:
        # An image that is wrong in one view is often wrong in another, so an image that counts
        # several times varies by more than independent errors would.
        return np.nan
    # The derivative of 2 sqrt(x + 3/8) is 1 / sqrt(x + 3/8).
    return recorded.variance / (mean + 3 / 8)


def standard_deviations(
    variances: ModeratedVariances, values: np.ndarray, checks: Sequence[PanelCheck]
) -> np.ndarray:
    """Return the standard deviation s of each check on its scale, (checks,), at least its minimum.

    Args:
        variances: The moderated variances of the checks.
        values: Values of the reference models, (K, checks), for the minimum of `least_of`.
        checks: The checks.
    """
    least = least_of(on_scales(values, checks), checks)
    return np.asarray(np.maximum(np.sqrt(variances.variance), least))


# Outliers and false alarms.


@dataclass(frozen=True)
class Outliers:
    """Outliers of a panel.

    Attributes:
        checks: For the id of each outlying check, the reason.
        models: A line on each model that is an outlier in many checks.
    """

    checks: Mapping[str, str]
    models: tuple[str, ...]


def check_panel(panel: Panel) -> None:
    """Raise `InputError` for a panel that is too small for thresholds or has an outlying model."""
    count = len(panel.models)
    if count < FEW and not panel.chance:
        raise PanelError(
            f"a panel of {count} reference models without predictions by image is too small for "
            f"thresholds. At least {FEW}, better 20, are needed: train more seeds, or calibrate "
            "again"
        )
    models = outliers(panel).models
    if models:
        raise PanelError(
            f"these are no reference models of one recipe: {'; '.join(models)}; remove them or "
            "train them again"
        )


def outliers(panel: Panel) -> Outliers:
    """Return the checks in which a model contradicts the others, and the models that do so often.

    Each model is compared with the others of the panel by a two-sided t test of its distance from
    their mean, as in the prediction interval of a threshold. The level is such that one of 1,000
    panels without an outlier has an outlying check (Bonferroni over models and checks).

    One odd habit of a healthy model shows in a few checks, another recipe in many. A panel with
    fewer than three models has no outliers. Heavy-tailed metrics and those without any threshold do
    not count.
    """
    panel = _with_comparable_checks(panel)
    if len(panel.models) < PROVISIONAL or not panel.checks:
        return Outliers({}, ())

    values = panel.values(panel.checks)
    level = OUTLIER_SHARE / values.size
    many = max(MANY_AT_LEAST, MANY * len(panel.checks))
    reasons: dict[str, str] = {}
    lines = []
    for position, model in enumerate(panel.models):
        p_values = _p_values_of_model(panel, values, position)
        outlying = [int(at) for at in np.flatnonzero(p_values < level)]
        for at in outlying:
            reason = f"{CONTRADICTED}: {model.path} has {_comparison(values, position, at)}"
            reasons.setdefault(panel.checks[at].id, reason)

        if len(outlying) >= many:
            worst = int(p_values.argmin())
            lines.append(
                f"{model.path} is an outlier in {len(outlying)} of {len(panel.checks)} checks, and "
                f"has {panel.checks[worst].id} {_comparison(values, position, worst)}"
            )
    return Outliers(reasons, tuple(lines))


def _with_comparable_checks(panel: Panel) -> Panel:
    """Return the panel without heavy-tailed metrics and those without any threshold."""
    left_out = {
        name for name, metric in METRICS.items() if metric.heavy_tailed or metric.informational
    }
    checks = tuple(check for check in panel.checks if check.metric not in left_out)
    return replace(panel, checks=checks)


def _p_values_of_model(panel: Panel, values: np.ndarray, position: int) -> np.ndarray:
    """Return the p-value of one model against the others in each check, (checks,).

    Args:
        panel: The panel, whose checks those of `values` are.
        values: Values of all models, (models, checks).
        position: The position of the model.
    """
    from scipy.stats import t

    others = np.delete(values, position, axis=0)
    p_values = np.empty(len(panel.checks))
    for family in panel.families:
        checks = panel.family(family)
        in_family = np.array([check.family == family for check in panel.checks])
        family_others = others[:, in_family]
        variances = variances_of(panel, checks, family_others)
        std = standard_deviations(variances, family_others, checks)
        mean = on_scales(family_others, checks).mean(axis=0)
        distance = np.abs(on_scales(values[position, in_family], checks) - mean)
        # The distance of one more model has the standard deviation s sqrt(1 + 1/K).
        studentized = distance / std / widened(len(others))
        p_values[in_family] = 2 * t.sf(studentized, variances.df(len(others)))
    return p_values


def _comparison(values: np.ndarray, position: int, check: int) -> str:
    """Return the value of a model in a check and those of the others as text."""
    others = np.delete(values, position, axis=0)[:, check]
    mean = others.mean()
    std = others.std(ddof=1)
    return f"{values[position, check]:.4g}, the others {mean:.4g} ± {std:.2g}"


def false_alarms(panel: Panel, thresholds: Sequence[Calibrated]) -> list[str]:
    """Return a line on each model that fails a check with thresholds from the others.

    Informational checks do not count. A panel with fewer than three models has no false alarms.
    """
    if len(panel.models) < PROVISIONAL:
        return []

    judging = {calibrated.check.id for calibrated in thresholds if not calibrated.informational}
    failing_checks: dict[str, list[str]] = {}
    for family in panel.families:
        checks = tuple(check for check in panel.family(family) if check.id in judging)
        if not checks:
            continue

        values = panel.values(checks)
        for position, model in enumerate(panel.models):
            others = np.delete(values, position, axis=0)
            from_others = shared_thresholds(panel, checks, checks, others)
            for calibrated, value in zip(from_others, values[position], strict=True):
                if not calibrated.holds(value):
                    failing_checks.setdefault(model.path, []).append(calibrated.check.id)
    return [f"{path}: {', '.join(ids)}" for path, ids in failing_checks.items()]
