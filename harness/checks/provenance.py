"""Consistency of panel thresholds: each must follow from its row's mean, std and k, or a person edited it."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

from harness.measures.metric import Unit
from harness.measures.panel.threshold import (
    FEW,
    K_DECIMALS,
    ROOT_DECIMALS,
    Calibrated,
    PanelCheck,
    budget_of,
    decimals,
)
from harness.measures.worst_poses import BREAKING_SEVERITY
from harness.perturb.grids import PATHS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.checks.check import Check
    from harness.measures.metric import Metric

_NUMBERS = {"mean": None, "std": 0, "k": 0, "reference_models": 1, "minimum_detectable_drop": 0, "n": 1}
"""Numbers that every panel threshold has, with the smallest valid value of each."""
_HALF = 0.5001
"""Largest rounding error in units of the last decimal, with a margin for binary numbers."""


def departure_of(check: Check, metric: Metric, budgets: Mapping[str, float]) -> str:
    """Return the error for the first value of a check's panel threshold that does not follow from those of its row.

    Empty if all follow, to the precision of the file.
    """
    panel = check.panel
    if panel is None:
        return ""
    root = {"root_mean": None, "root_std": 0} if metric.scale == "root" else {}
    for key, least in {**_NUMBERS, **root, "definition": None}.items():
        found = getattr(panel, key)
        if found in {None, ""} or (least is not None and found < least):
            return _departure(check, key, found, "the one that calibration writes")
    possible = _possible(check, metric, budgets)
    written = [item.written for item in possible]
    for key in ("threshold", "minimum_detectable_drop"):
        low, high = min(numbers[key] for numbers in written), max(numbers[key] for numbers in written)
        if not low <= (found := getattr(panel, key)) <= high:
            return _departure(check, key, found, f"{low:g}" if low == high else f"{low:g} to {high:g}")
    reasons = {item.informational for item in possible}
    if bool(check.informational) in {bool(reason) for reason in reasons}:
        return ""
    return _departure(check, "informational", check.informational, repr(max(reasons)))


def _departure(check: Check, key: str, found: object, expected: str) -> str:
    hand = f', or declare it by hand: hand = {{ threshold = {found}, reason = "..." }}' if key == "threshold" else ""
    return (
        f"check {check.id!r}: {key} of the panel threshold is {found!r}, expected {expected} by its own mean, std, k "
        f"and number of reference models; restore the row, calibrate its family again (--family {check.family}){hand}"
    )


def _possible(check: Check, metric: Metric, budgets: Mapping[str, float]) -> list[Calibrated]:
    numbers = {key: getattr(check.panel, key) for key in (*_NUMBERS, "root_mean", "root_std")}
    path = PATHS.get(str(check.keys.get("path"))) if metric.name == BREAKING_SEVERITY.name else None
    unit, models = metric.unit if path is None else Unit(path.unit), numbers["reference_models"]
    about = PanelCheck(check.id, check.family, metric.name, unit, metric.direction, numbers["n"], scale=metric.scale)

    def around(key: str, digits: int) -> tuple[float, float]:
        half = _HALF * 10**-digits
        return numbers[key] - half, numbers[key] + half

    means, spreads = around("mean", decimals(unit)), around("std", decimals(unit) + 1)
    centres = [(mean, mean) for mean in means]
    if metric.scale == "root":
        centres, spreads = list(product(means, around("root_mean", ROOT_DECIMALS))), around("root_std", ROOT_DECIMALS)
    # The file does not store whether few models had a prior, so both are possible.
    priors = (False, True) if models < FEW else (False,)
    found = []
    for (mean, centre), spread, k, prior in product(centres, spreads, around("k", K_DECIMALS), priors):
        budget = budget_of(about, mean, budgets, models)
        found.append(Calibrated(about, mean, numbers["std"], centre, spread, k, models, budget, prior=prior))
    return found
