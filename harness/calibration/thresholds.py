"""Decision rule: thresholds with a known probability of false alarms, and the loss that they detect.

A threshold is the end of a one-sided prediction interval for one more reference model (Hahn & Meeker 1991, section
4.8). For a minimum it is mean - k s sqrt(1 + 1/K), with mean and standard deviation s of K models on the same images.
`moderated_variance` explains how s borrows strength for small K.

A reference model fails any check with a probability of at most `ALARMS`. Half of it belongs to clean accuracy. The
other families have equal parts of the other half, at least `PARTS` of them. A new family therefore changes no other
threshold by more than 1%. The checks of a family share its part; `multiplicity` computes k.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

import numpy as np

from harness.calibration.moderated_variance import moderated
from harness.calibration.multiplicity import DRAWS, correlation, multiplier
from harness.measures.panel.threshold import FEW, Calibrated, budget_of, least_of, on_scales

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.calibration.moderated_variance import Moderated
    from harness.calibration.panel import Panel
    from harness.measures.panel.threshold import PanelCheck

ALARMS, PARTS = 0.01, 12
"""Probability that a reference model fails any check, and the number of parts of one half of it.

`benchmarks.detection.shares` compares other divisions."""
CLEAN = "clean"
"""Family with the other half."""
PROVISIONAL = 3
"""Least number of reference models for thresholds that are not provisional; two say little about a third."""


# Shares of false alarms.


def thresholds_of(
    panel: Panel,
    budgets: Mapping[str, float],
    *,
    by_hand: frozenset[str] = frozenset(),
    reference_models: int | None = None,
    draws: int = DRAWS,
) -> list[Calibrated]:
    """Return a threshold for each check of the panel, in its order.

    `budgets` gives the largest loss that a check may miss, by metric or family; for others see `default_budget`. Checks
    with a threshold `by_hand` and informational ones have no part in their family's share of false alarms. With
    `reference_models`, thresholds are for another number of models with the same spread.
    """
    calibrated = {
        item.check.id: item
        for family in panel.families
        for item in family_thresholds(
            panel, panel.family(family), budgets, by_hand=by_hand, reference_models=reference_models, draws=draws
        )
    }
    return [calibrated[check.id] for check in panel.checks]


def family_thresholds(
    panel: Panel,
    checks: tuple[PanelCheck, ...],
    budgets: Mapping[str, float],
    *,
    by_hand: frozenset[str] = frozenset(),
    reference_models: int | None = None,
    draws: int = DRAWS,
) -> list[Calibrated]:
    """Return the thresholds of `thresholds_of` for the checks of one family."""
    values = panel.values(checks)

    def shared_by(sharing: tuple[PanelCheck, ...]) -> list[Calibrated]:
        return shared_thresholds(
            panel, checks, sharing, values, budgets=budgets, reference_models=reference_models, draws=draws
        )

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
    share = share_of(checks[0].family, panel.families)
    if count >= FEW and not found.worth.any():
        signed = on_scales(panel.values(sharing), sharing) * [check.sign for check in sharing]
        ks = np.full(len(checks), multiplier(correlation(signed), share=share, reference_models=count, draws=draws))
    else:
        among = {check.id for check in sharing}
        ks = found.multipliers(share, count, [at for at, check in enumerate(checks) if check.id in among])
    spreads = std_of(found, values, checks)
    return [
        Calibrated.of(
            check,
            column,
            k=float(k),
            spread=float(spread),
            prior=bool(worth > 0),
            budget=budget_of(check, float(column.mean()), budgets, count),
            reference_models=count,
        )
        for check, column, k, spread, worth in zip(checks, values.T, ks, spreads, found.worth, strict=True)
    ]


def share_of(family: str, families: Sequence[str]) -> float:
    """Return the probability with which a reference model may fail one of these families."""
    others = len(set(families) - {CLEAN})
    return ALARMS / 2 if family == CLEAN else ALARMS / 2 / max(PARTS, others)


# Spread of reference models.


def spread_of(panel: Panel, checks: Sequence[PanelCheck], values: np.ndarray) -> Moderated:
    """Return the moderated variances of checks from the values of K models, (K, checks), on the checks' scales.

    The variance by chance is the prior if it is known well enough.
    """
    scaled, means = on_scales(values, checks), values.mean(axis=0)
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
    return moderated(scaled, chance, loss)


def std_of(found: Moderated, values: np.ndarray, checks: Sequence[PanelCheck]) -> np.ndarray:
    """Return the standard deviation of each check, at least its minimum, (checks,), on its scale."""
    return np.asarray(np.maximum(np.sqrt(found.variance), least_of(on_scales(values, checks), checks)))
