"""Leave-one-out checks of a reference panel: outliers, and false alarms of its own thresholds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.base.errors import PanelError
from harness.calibration.thresholds import shared_thresholds, spread_of, std_of
from harness.measures.panel.threshold import FEW, PROVISIONAL, on_scales, widened

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.calibration.panel import Panel
    from harness.measures.panel.threshold import Calibrated

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
    three models have no outlier.
    """
    from scipy.stats import t

    values = panel.values(panel.checks)
    found: list[str] = []
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
