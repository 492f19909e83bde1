"""Minimum detectable drop that holds before reference models are measured, or for more of them than a panel has."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from harness.calibration.moderated_variance import CHECK_DF, INDEPENDENT, Moderated
from harness.calibration.thresholds import PROVISIONAL, share_of, spread_of
from harness.checks.families import FAMILIES
from harness.measures.panel.threshold import POWER_DEVIATIONS, widened

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.calibration.panel import Panel
    from harness.measures.panel.threshold import Calibrated
    from harness.run.budget import Line

TYPICAL = 0.9
"""Accuracy behind a promised drop."""
_ACCURACIES = {"accuracy", "group_accuracy"}
"""Metrics that a promise holds for."""
DOUBT = 0.05
"""Probability of a larger spread of reference models than a promise for more of them assumes."""


def detectable_drop(family: str, *, images: int, checks: int) -> float:
    """Return the minimum detectable drop of accuracy of each check of a family, with three reference models.

    Chance alone makes reference models differ by 0.4 of the binomial variance. With the inflation of
    `moderated_variance` that is 0.64, and more for some checks. The whole binomial variance covers 95 of 100 measured
    checks, where the perturbation costs up to five points (`benchmarks.few`). More models detect smaller drops.
    """
    moderated = Moderated(np.ones(checks), np.full(checks, CHECK_DF), np.ones(checks), min(checks, INDEPENDENT))
    k = float(moderated.multipliers(share_of(family, (family,)), PROVISIONAL, range(checks))[0])
    return (k + POWER_DEVIATIONS) * widened(PROVISIONAL) * math.sqrt(TYPICAL * (1 - TYPICAL) / images)


def planned_drop(family: str, line: Line) -> float | None:
    """Return the minimum detectable drop of the line of a family in a plan, by its smallest class or group.

    None for no detectable drop, and for a shipped family of other metrics than accuracies, such as counts. Any other
    family counts as one of accuracies.
    """
    shipped = FAMILIES.get(family)
    if not line.fewest or (shipped and not _ACCURACIES & set(shipped.metrics)):
        return None
    drop = detectable_drop(family, images=line.fewest, checks=max(line.tests, 1))
    return drop if drop < TYPICAL else None


def cautious(panel: Panel, planned: Sequence[Calibrated]) -> list[Calibrated]:
    """Return thresholds planned for another number of models, with the largest spread that this panel allows.

    That is the upper 95% confidence limit of the standard deviation. Few models may agree by chance, so more models
    have a larger spread in half of the checks.
    """
    from scipy.stats import chi2

    cautious = []
    for family in dict.fromkeys(item.check.family for item in planned):
        checks = panel.family(family)
        df = np.maximum(spread_of(panel, checks, panel.values(checks)).df(len(panel.models)), 1)
        wider = dict(zip((check.id for check in checks), np.sqrt(df / chi2.ppf(DOUBT, df)), strict=True))
        cautious += [
            replace(item, spread=item.spread * float(wider[item.check.id]))
            for item in planned
            if item.check.family == family
        ]
    return cautious
