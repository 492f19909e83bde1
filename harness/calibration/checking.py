"""What a panel must be for bounds to be made of it: large enough, and without an outlier."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.calibration.moderated import FEW
from harness.calibration.multipliers import widened
from harness.calibration.reach import PROVISIONAL, spread_of, std_of
from harness.calibration.scales import on_scales
from harness.errors import InputError

if TYPE_CHECKING:
    from harness.calibration.panel import Panel

OUTLIER_SHARE = 0.001
"""How often a panel without an outlier is refused."""


def check_panel(panel: Panel) -> None:
    """Raise `InputError` for a panel that is too small or has an outlier."""
    count = len(panel.members)
    if count < FEW and not panel.chance:
        raise InputError(
            f"a panel of {count} retrains is too small for floors where nothing is known of their answers image by "
            f"image: at least {FEW}, better 20, are needed; train more seeds, or calibrate anew"
        )
    if found := outliers(panel):
        raise InputError(
            "these are no retrains of one recipe: " + "; ".join(found) + "; leave them out or train them anew"
        )


def outliers(panel: Panel) -> list[str]:
    """Name the members that the others' spread cannot explain, each with its most telling row.

    Each member is held against the rest: the studentised deviation of each row (two-sided t with the rest's degrees of
    freedom, Bonferroni over members and rows) is beyond what 0.1% of healthy panels reach. Of fewer than three none can
    be told.
    """
    from scipy.stats import t

    values = panel.values(panel.rows)
    found: list[str] = []
    if len(values) < PROVISIONAL:
        return found
    for position, member in enumerate(panel.members):
        rest = np.delete(values, position, axis=0)
        chances = np.empty(len(panel.rows))
        for family in panel.families:
            at = np.array([row.family == family for row in panel.rows])
            rows = panel.family(family)
            spread = spread_of(panel, rows, rest[:, at])
            std = std_of(spread, rest[:, at], rows)
            away = on_scales(values[position, at], rows) - on_scales(rest[:, at], rows).mean(axis=0)
            chances[at] = 2 * t.sf(np.abs(away) / std / widened(len(rest)), spread.df(len(rest)))
        worst = int(chances.argmin())
        if chances[worst] < OUTLIER_SHARE / values.size:
            found.append(
                f"{member.path} has {panel.rows[worst].id} {values[position, worst]:.4g}, the others "
                f"{rest[:, worst].mean():.4g} ± {rest[:, worst].std(ddof=1):.2g}"
            )
    return found
