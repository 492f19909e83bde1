"""Decision rule: thresholds with a known probability of false alarms, and the loss that they detect.

A threshold is the end of a one-sided prediction interval for one more reference model (Hahn & Meeker 1991, section
4.8). For a minimum it is mean - k s sqrt(1 + 1/K), with mean and standard deviation s of K models on the same images.
A reference model fails any check with a probability of at most 1%, which `harness.calibration.shares` divides.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.base.errors import PanelError
from harness.calibration.moderated_variance import INFLATION, moderated
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

    from harness.calibration.moderated_variance import Moderated
    from harness.calibration.panel import Panel
    from harness.measures.panel.threshold import PanelCheck


def multiplier(share: Any, *, reference_models: int) -> Any:
    """Return the k with which one more model fails a check with this probability, or an array for an array of them.

    It is the quantile of Student's t distribution with K - 1 degrees of freedom. The checks of a
    family divide its share (Bonferroni). Correlated checks fail together, so the probability that
    any fails is smaller than the share. In the far tails of t distributions, the difference is
    small. For the families of the shipped panel, the exact k is at most 0.4% smaller. For 40 checks
    it is 0.9% smaller if they correlate by 0.6, and 10% if they correlate by 0.9.
    """
    from scipy.stats import t

    return t.isf(share, reference_models - 1)


def thresholds_of(
    panel: Panel, *, by_hand: frozenset[str] = frozenset(), **how: Any
) -> list[Calibrated]:
    """Return a threshold for each check of the panel, in its order.

    Checks with a threshold `by_hand` and informational ones have no part in their family's share of
    false alarms. With `reference_models`, thresholds are for another number of models with the same
    spread.
    """
    outlying = outliers(panel).checks
    families = (
        family_thresholds(panel, panel.family(family), by_hand=by_hand, outlying=outlying, **how)
        for family in panel.families
    )
    calibrated = {item.check.id: item for items in families for item in items}
    return [calibrated[check.id] for check in panel.checks]


def family_thresholds(
    panel: Panel,
    checks: tuple[PanelCheck, ...],
    *,
    by_hand: frozenset[str] = frozenset(),
    outlying: Mapping[str, str] | None = None,
    **how: Any,
) -> list[Calibrated]:
    """Return the thresholds of `thresholds_of` for the checks of one family, with its further arguments.

    `outlying` has the reason of each check with an outlier among the reference models.
    """
    values, outlying = panel.values(checks), outlying or {}

    def shared_by(sharing: tuple[PanelCheck, ...]) -> list[Calibrated]:
        items = shared_thresholds(panel, checks, sharing, values, **how)
        return [
            replace(
                item, outlier=outlying.get(item.check.id, ""), at_chance=panel.at_chance(item.check)
            )
            for item in items
        ]

    def judges(item: Calibrated) -> bool:
        # One or two models without a prior give no estimate, whatever number a plan assumes.
        estimated = item.prior or len(values) >= PROVISIONAL
        return estimated and not item.informational and item.check.id not in by_hand

    items = shared_by(checks)
    sharing = tuple(item.check for item in items if judges(item))
    if not sharing or sharing == checks:
        return items
    again = shared_by(sharing)
    return [old if old.informational else new for old, new in zip(items, again, strict=True)]


def shared_thresholds(
    panel: Panel,
    checks: tuple[PanelCheck, ...],
    sharing: tuple[PanelCheck, ...],
    values: np.ndarray,
    *,
    reference_models: int | None = None,
) -> list[Calibrated]:
    """Return thresholds for the checks of one family from the values of K models, (K, checks).

    The checks `sharing` divide the family's share of false alarms. With a prior, each check has its own t distribution.
    `reference_models` is as in `thresholds_of`.
    """
    found, count = spread_of(panel, checks, values), reference_models or len(values)
    share = share_of(
        checks[0].family, [check.family for check in panel.checks if not never_judged(check.metric)]
    )
    shares = share * parts_of(checks, sharing)
    if count >= FEW and not found.worth.any():
        ks = multiplier(shares, reference_models=count)
    else:
        among = {check.id for check in sharing}
        ks = found.multipliers(
            shares, count, [at for at, check in enumerate(checks) if check.id in among]
        )
    items = []
    for at, (check, spread) in enumerate(
        zip(checks, map(float, std_of(found, values, checks)), strict=True)
    ):
        own, prior = values[:, at], bool(found.worth[at] > 0)
        mean, centre, std = float(own.mean()), float(on_scale(own, check.scale).mean()), spread
        if check.scale == "root":
            around = [off_scale(centre + side * spread, "root") for side in (-1, 1)]
            std = (around[1] - around[0]) / 2 if prior else float(own.std(ddof=1))
        items.append(
            Calibrated(check, mean, std, centre, spread, float(ks[at]), count, prior=prior)
        )
    return items


def spread_of(panel: Panel, checks: Sequence[PanelCheck], values: np.ndarray) -> Moderated:
    """Return the moderated variances of checks from the values of K models, (K, checks), on the checks' scales.

    The variance by chance is the prior if it is known well enough. Reference models define the strata of a sample, and
    so hide a part of the variance by sampling that one more model has. It is added.
    """
    scaled, means = on_scales(values, checks), values.mean(axis=0)
    hidden = np.array(
        [known.hidden if (known := panel.chance.get(check.id)) else 0.0 for check in checks]
    )
    chance, loss = np.full(len(checks), np.nan), np.zeros(len(checks))
    for at, (check, mean) in enumerate(zip(checks, means, strict=True)):
        known = panel.chance.get(check.id)
        if check.scale == "root":
            # Chance underestimates double counts: an image lost in one view is often lost in another.
            if known and known.answers:
                chance[at] = known.variance / (mean + 3 / 8)
            elif not known and len(values) < FEW:
                chance[at] = 1.0  # The variance of Poisson counts on this scale.
        elif known and (known.answers or len(values) >= PROVISIONAL):
            # Models that agree on all of a few images would disagree on others: about one image, as in `least_of`.
            least = 1.0 if check.unit is Unit.IMAGES else 1 / check.n
            chance[at] = (
                max(known.variance, least**2 / INFLATION) if known.answers else known.variance
            )
            loss[at] = max(check.sign * (known.rest - mean), 0.0) if known.rest is not None else 0.0
    found = moderated(scaled, chance, loss)
    return replace(found, variance=found.variance + hidden)


def std_of(found: Moderated, values: np.ndarray, checks: Sequence[PanelCheck]) -> np.ndarray:
    """Return the standard deviation of each check, at least its minimum, (checks,), on its scale."""
    return np.asarray(
        np.maximum(np.sqrt(found.variance), least_of(on_scales(values, checks), checks))
    )


OUTLIER_SHARE = 0.001
"""Probability that a panel without an outlier has an outlying check."""
MANY = 0.1
"""Share of outlying checks, three at least, from which on a model belongs to no panel."""


@dataclass(frozen=True)
class Outliers:
    """Outliers of a panel: the reason of each outlying check by its id, and a line on each outlying model."""

    checks: Mapping[str, str]
    models: tuple[str, ...]


def check_panel(panel: Panel) -> None:
    """Raise `InputError` for a panel that is too small for thresholds or has an outlying model."""
    count = len(panel.models)
    if count < FEW and not panel.chance:
        raise PanelError(
            f"a panel of {count} reference models without predictions by image is too small for thresholds. At least "
            f"{FEW}, better 20, are needed: train more seeds, or calibrate again"
        )
    if models := outliers(panel).models:
        raise PanelError(
            "these are no reference models of one recipe: "
            + "; ".join(models)
            + "; remove them or train them again"
        )


def outliers(panel: Panel) -> Outliers:
    """Return the checks in which a model contradicts the others, and the models that do so in many checks.

    A check is outlying if a studentized deviation lies beyond that of 99.9% of panels without an
    outlier. The test is a two-sided t test with the others' degrees of freedom, and Bonferroni over
    models and checks. One odd habit of a healthy model shows in a few checks, another recipe in many.
    Panels with fewer than three models have no outlier. Heavy-tailed metrics and those without any
    threshold do not count.
    """
    from scipy.stats import t

    left_out = {
        name for name, metric in METRICS.items() if metric.heavy_tailed or metric.informational
    }
    panel = replace(
        panel, checks=tuple(check for check in panel.checks if check.metric not in left_out)
    )
    if len(panel.models) < PROVISIONAL or not panel.checks:
        return Outliers({}, ())

    values = panel.values(panel.checks)
    reasons: dict[str, str] = {}
    models = []
    for position, model in enumerate(panel.models):
        others = np.delete(values, position, axis=0)
        chances = np.empty(len(panel.checks))
        for family in panel.families:
            at = np.array([check.family == family for check in panel.checks])
            checks = panel.family(family)
            spread = spread_of(panel, checks, others[:, at])
            std = std_of(spread, others[:, at], checks)
            away = on_scales(values[position, at], checks) - on_scales(others[:, at], checks).mean(
                axis=0
            )
            chances[at] = 2 * t.sf(
                np.abs(away) / std / widened(len(others)), spread.df(len(others))
            )

        def compared(at: int, others: np.ndarray = others, position: int = position) -> str:
            value, mean, std = values[position, at], others[:, at].mean(), others[:, at].std(ddof=1)
            return f"{value:.4g}, the others {mean:.4g} ± {std:.2g}"

        outlying = np.flatnonzero(chances < OUTLIER_SHARE / values.size)
        for check in map(int, outlying):
            reason = f"{CONTRADICTED}: {model.path} has {compared(check)}"
            reasons.setdefault(panel.checks[check].id, reason)
        if len(outlying) >= max(3, MANY * len(panel.checks)):
            worst = int(chances.argmin())
            models.append(
                f"{model.path} is an outlier in {len(outlying)} of {len(panel.checks)} checks, and has "
                f"{panel.checks[worst].id} {compared(worst)}"
            )
    return Outliers(reasons, tuple(models))


def false_alarms(panel: Panel, calibrated: Sequence[Calibrated]) -> list[str]:
    """Return a line on each model that fails a check with thresholds from the others, except informational checks.

    Panels with fewer than three models have none.
    """
    judged = {item.check.id for item in calibrated if not item.informational}
    alarms: dict[str, list[str]] = {}
    for family in panel.families if len(panel.models) >= PROVISIONAL else ():
        if checks := tuple(check for check in panel.family(family) if check.id in judged):
            values = panel.values(checks)
            for position, model in enumerate(panel.models):
                items = shared_thresholds(
                    panel, checks, checks, np.delete(values, position, axis=0)
                )
                pairs = zip(items, values[position], strict=True)
                if failed := [item.check.id for item, value in pairs if not item.holds(value)]:
                    alarms.setdefault(model.path, []).extend(failed)
    return [f"{path}: {', '.join(ids)}" for path, ids in alarms.items()]
