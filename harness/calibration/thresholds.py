"""Decision rule: thresholds with a known probability of false alarms, and the loss that they detect.

A threshold is the end of a one-sided prediction interval for one more reference model (Hahn & Meeker 1991, section
4.8). For a minimum it is mean - k s sqrt(1 + 1/K), with mean and standard deviation s of K models on the same images.
A reference model fails any check with a probability of at most `ALARMS`. Half of it belongs to clean accuracy. The
other families have equal parts of the other half, at least `PARTS` of them. The checks of a family share its part.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.base.errors import PanelError
from harness.calibration.moderated_variance import moderated
from harness.measures import METRICS, never_judged
from harness.measures.panel.threshold import (
    FEW,
    PROVISIONAL,
    Calibrated,
    budget_of,
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


DRAWS = 200_000
"""Draws of the parametric bootstrap, which determine a share to about a tenth of itself."""
DRAWN = 200
"""Most checks of a family for the bootstrap. In larger families, k is too large if checks correlate.

For 20 models and 200 checks, the excess is 0.3% without correlation, and also at 0.02, the mean of the shipped
corruptions, the largest family. It is 14% at 0.9."""


def multiplier(correlations: np.ndarray, *, share: float, reference_models: int, draws: int = DRAWS) -> float:
    """Return the k for which one more model fails any of R thresholds with probability `share`.

    For one check it is Student's t quantile with K - 1 degrees of freedom. For up to `DRAWN`, it comes from a
    parametric bootstrap with these correlations, (R, R). This draws panels and one more model from a normal
    distribution and takes the quantile of the largest deviation. For more checks, it is the t quantile of an R-th of
    the share (Bonferroni), since a bootstrap would take minutes to hours. That k is never smaller, so it causes no more
    false alarms.
    """
    from scipy.stats import t

    checks = len(correlations)
    if checks == 1 or checks > DRAWN:
        return float(t.isf(share / checks, reference_models - 1))
    return _drawn(correlations.astype(float).tobytes(), share, reference_models, draws)


@cache
def _drawn(correlations: bytes, share: float, reference_models: int, draws: int) -> float:
    rng, flat = np.random.default_rng(0), np.frombuffer(correlations)
    checks = math.isqrt(len(flat))
    # Cholesky's root does not exist for singular correlations.
    variances, directions = np.linalg.eigh(flat.reshape(checks, checks))
    root = (directions * np.sqrt(np.maximum(variances, 0))).astype(np.float32)
    largest = []
    batch = max(1, 4_000_000 // ((reference_models + 1) * checks))
    for start in range(0, draws, batch):
        shape = min(batch, draws - start), reference_models + 1, checks
        drawn = rng.standard_normal(shape, dtype=np.float32) @ root.T
        panels, retrain = np.split(drawn.swapaxes(0, 1).copy(), [reference_models])  # Sums of long rows are fast.
        largest.append(((panels.mean(axis=0) - retrain[0]) / panels.std(axis=0, ddof=1)).max(axis=1))
    return float(np.quantile(np.concatenate(largest), 1 - share) / widened(reference_models))


def correlation(values: np.ndarray) -> np.ndarray:
    """Return the correlations of the columns, (checks, checks), shrunk towards zero (Ledoit & Wolf 2004).

    Few models overstate correlations, and so understate the number of independent checks. A constant column correlates
    with no other.
    """
    from sklearn.covariance import ledoit_wolf

    spread = values.std(axis=0)
    varying = spread > 1e-9 * np.maximum(np.abs(values).max(axis=0), 1)  # Equal values have a spread by rounding.
    result = np.eye(values.shape[1])
    if varying.sum() > 1:
        standardised = (values[:, varying] - values[:, varying].mean(axis=0)) / spread[varying]
        shrunk, _ = ledoit_wolf(standardised, assume_centered=True)
        scale = np.sqrt(np.diag(shrunk))
        result[np.ix_(varying, varying)] = shrunk / np.outer(scale, scale)
    return result


ALARMS, PARTS = 0.01, 12
"""Probability that a reference model fails any check, and the number of parts of one half of it.

`benchmarks.detection.shares` compares other divisions."""
CLEAN = "clean"
"""Family with the other half."""


def thresholds_of(
    panel: Panel, budgets: Mapping[str, float], *, by_hand: frozenset[str] = frozenset(), **how: Any
) -> list[Calibrated]:
    """Return a threshold for each check of the panel, in its order.

    `budgets` gives the largest loss that a check may miss, by metric or family; for others see `budget_of`. Checks
    with a threshold `by_hand` and informational ones have no part in their family's share of false alarms. With
    `reference_models`, thresholds are for another number of models with the same spread. `draws` is that of
    `multiplier`.
    """
    families = (
        family_thresholds(panel, panel.family(family), budgets, by_hand=by_hand, **how) for family in panel.families
    )
    calibrated = {item.check.id: item for items in families for item in items}
    return [calibrated[check.id] for check in panel.checks]


def family_thresholds(
    panel: Panel,
    checks: tuple[PanelCheck, ...],
    budgets: Mapping[str, float],
    *,
    by_hand: frozenset[str] = frozenset(),
    **how: Any,
) -> list[Calibrated]:
    """Return the thresholds of `thresholds_of` for the checks of one family, with its further arguments."""
    values = panel.values(checks)

    def shared_by(sharing: tuple[PanelCheck, ...]) -> list[Calibrated]:
        return shared_thresholds(panel, checks, sharing, values, budgets=budgets, **how)

    def with_threshold(items: list[Calibrated]) -> tuple[PanelCheck, ...]:
        # One or two models without a prior give no estimate, whatever number a plan assumes.
        return tuple(
            item.check
            for item in items
            if item.check.id not in by_hand and (item.prior or len(values) >= PROVISIONAL) and not item.informational
        )

    items = shared_by(checks)
    if not any(item.prior for item in items):
        if not 0 < len(sharing := with_threshold(items)) < len(checks):
            return items
        again = shared_by(sharing)
        return [old if old.informational else new for old, new in zip(items, again, strict=True)]
    # Each check has its own t distribution here. The fewer checks share the family's part, the more power each has.
    alone = shared_by(checks[:1])
    ease = {item.check.id: item.minimum_detectable_drop / item.budget for item in alone}
    able = tuple(sorted(with_threshold(alone), key=lambda check: ease[check.id]))

    def spent(few: int) -> bool:
        """Return whether no other check has power if these few checks, the most powerful ones, share the part."""
        return set(with_threshold(shared_by(able[:few]))) <= set(able[:few])

    return shared_by(able[: bisect_left(range(1, len(able)), 1, key=spent) + 1]) if able else items


def shared_thresholds(
    panel: Panel,
    checks: tuple[PanelCheck, ...],
    sharing: tuple[PanelCheck, ...],
    values: np.ndarray,
    *,
    budgets: Mapping[str, float],
    reference_models: int | None = None,
    draws: int = DRAWS,
) -> list[Calibrated]:
    """Return thresholds for the checks of one family from the values of K models, (K, checks).

    The checks `sharing` divide the family's part of false alarms equally. Without a prior they have one multiplier;
    else each has its own t distribution. `reference_models` is as in `thresholds_of`.
    """
    found, count = spread_of(panel, checks, values), reference_models or len(values)
    share = share_of(checks[0].family, [check.family for check in panel.checks if not never_judged(check.metric)])
    if count >= FEW and not found.worth.any():
        signed = on_scales(panel.values(sharing), sharing) * [check.sign for check in sharing]
        ks = np.full(len(checks), multiplier(correlation(signed), share=share, reference_models=count, draws=draws))
    else:
        among = {check.id for check in sharing}
        ks = found.multipliers(share, count, [at for at, check in enumerate(checks) if check.id in among])
    items = []
    for at, (check, spread) in enumerate(zip(checks, map(float, std_of(found, values, checks)), strict=True)):
        own, prior = values[:, at], bool(found.worth[at] > 0)
        mean, centre, std = float(own.mean()), float(on_scale(own, check.scale).mean()), spread
        if check.scale == "root":
            around = [off_scale(centre + side * spread, "root") for side in (-1, 1)]
            std = (around[1] - around[0]) / 2 if prior else float(own.std(ddof=1))
        budget = budget_of(check, mean, budgets, count)
        items.append(Calibrated(check, mean, std, centre, spread, float(ks[at]), count, budget, prior))
    return items


def share_of(family: str, families: Sequence[str]) -> float:
    """Return the probability with which a reference model may fail one of these families."""
    others = len(set(families) - {CLEAN})
    return ALARMS / 2 if family == CLEAN else ALARMS / 2 / max(PARTS, others)


def spread_of(panel: Panel, checks: Sequence[PanelCheck], values: np.ndarray) -> Moderated:
    """Return the moderated variances of checks from the values of K models, (K, checks), on the checks' scales.

    The variance by chance is the prior if it is known well enough. Reference models define the strata of a sample, and
    so hide a part of the variance by sampling that one more model has. It is added.
    """
    scaled, means = on_scales(values, checks), values.mean(axis=0)
    hidden = np.array([known.hidden if (known := panel.chance.get(check.id)) else 0.0 for check in checks])
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
            chance[at] = known.variance
            loss[at] = max(check.sign * (known.rest - mean), 0.0) if known.rest is not None else 0.0
    found = moderated(scaled, chance, loss)
    return replace(found, variance=found.variance + hidden)


def std_of(found: Moderated, values: np.ndarray, checks: Sequence[PanelCheck]) -> np.ndarray:
    """Return the standard deviation of each check, at least its minimum, (checks,), on its scale."""
    return np.asarray(np.maximum(np.sqrt(found.variance), least_of(on_scales(values, checks), checks)))


OUTLIER_SHARE = 0.001
"""Probability that a panel without an outlier is refused."""


def check_panel(panel: Panel) -> None:
    """Raise `InputError` for a panel that is too small for thresholds or has an outlier."""
    count = len(panel.models)
    if count < FEW and not panel.chance:
        raise PanelError(
            f"a panel of {count} reference models without predictions by image is too small for thresholds. At least "
            f"{FEW}, better 20, are needed: train more seeds, or calibrate again"
        )
    if found := outliers(panel):
        raise PanelError(
            "these are no reference models of one recipe: " + "; ".join(found) + "; remove them or train them again"
        )


def outliers(panel: Panel) -> list[str]:
    """Return a line on each outlier among the models, with its most telling check.

    The studentized deviation of that check lies beyond that of 99.9% of panels without an outlier. The test is a
    two-sided t test with the others' degrees of freedom, and Bonferroni over models and checks. Panels with fewer than
    three models have no outlier. Logarithms of small means and largest deviations have tails too heavy for that test.
    Metrics with a budget of their own, or without any threshold, do not count.
    """
    from scipy.stats import t

    left_out = {name for name, metric in METRICS.items() if metric.budget is not None or metric.informational}
    panel = replace(panel, checks=tuple(check for check in panel.checks if check.metric not in left_out))
    values = panel.values(panel.checks)
    found: list[str] = []
    if not panel.checks:
        return found
    for position, model in enumerate(panel.models if len(values) >= PROVISIONAL else ()):
        rest = np.delete(values, position, axis=0)
        chances = np.empty(len(panel.checks))
        for family in panel.families:
            at = np.array([check.family == family for check in panel.checks])
            checks = panel.family(family)
            spread = spread_of(panel, checks, rest[:, at])
            std = std_of(spread, rest[:, at], checks)
            away = on_scales(values[position, at], checks) - on_scales(rest[:, at], checks).mean(axis=0)
            chances[at] = 2 * t.sf(np.abs(away) / std / widened(len(rest)), spread.df(len(rest)))
        worst = int(chances.argmin())
        if chances[worst] < OUTLIER_SHARE / values.size:
            found.append(
                f"{model.path} has {panel.checks[worst].id} {values[position, worst]:.4g}, the others "
                f"{rest[:, worst].mean():.4g} ± {rest[:, worst].std(ddof=1):.2g}"
            )
    return found


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
                items = shared_thresholds(panel, checks, checks, np.delete(values, position, axis=0), budgets={})
                pairs = zip(items, values[position], strict=True)
                if failed := [item.check.id for item, value in pairs if not item.holds(value)]:
                    alarms.setdefault(model.path, []).extend(failed)
    return [f"{path}: {', '.join(ids)}" for path, ids in alarms.items()]
