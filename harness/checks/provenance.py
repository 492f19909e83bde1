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
    from collections.abc import Iterable, Mapping, Sequence

    from harness.checks.check import Check
    from harness.measures.metric import Metric

_OWN = "its own mean, std, k and number of reference models"
_NUMBERS = {"mean": None, "std": 0, "k": 0, "reference_models": 1, "minimum_detectable_drop": 0, "n": 1}
"""Numbers that every panel threshold has, with the smallest valid value of each."""
_HALF = 0.5001
"""Largest rounding error in units of the last decimal, with a margin for binary numbers."""


def departed(check: Check, key: str, found: object, expected: str, *, by: str) -> str:
    """Return the error for a value of a panel threshold: found, expected `by` other numbers, and the remedy."""
    hand = f', or declare it by hand: hand = {{ threshold = {found}, reason = "..." }}' if key == "threshold" else ""
    return (
        f"check {check.id!r}: {key} of the panel threshold is {found!r}, expected {expected} by {by}; restore the row, "
        f"calibrate its family again (--family {check.family}){hand}"
    )


def departure_of(check: Check, metric: Metric, budgets: Mapping[str, float]) -> str:
    """Return the error for the first value of a check's panel threshold that does not follow from those of its row.

    Empty if all follow, to the precision of the file.
    """
    panel = check.panel
    if panel is None:
        return ""
    lacking = "the one that calibration writes"
    root = {"root_mean": None, "root_std": 0} if metric.scale == "root" else {}
    for key, least in {**_NUMBERS, **root}.items():
        found = getattr(panel, key)
        if found is None or (least is not None and found < least):
            return departed(check, key, found, lacking, by=_OWN)
    if not panel.definition:
        return departed(check, "definition", panel.definition, lacking, by=_OWN)
    numbers = {key: getattr(panel, key) for key in (*_NUMBERS, "root_mean", "root_std")}
    path = PATHS.get(str(check.keys.get("path"))) if metric.name == BREAKING_SEVERITY.name else None
    unit = metric.unit if path is None else Unit(path.unit)
    about = PanelCheck(check.id, check.family, metric.name, unit, metric.direction, numbers["n"], scale=metric.scale)
    digits, models = decimals(unit), numbers["reference_models"]
    means = _rounded(numbers["mean"], digits)
    centres, spreads = [(mean, mean) for mean in means], _rounded(numbers["std"], digits + 1)
    if metric.scale == "root":
        centres = list(product(means, _rounded(numbers["root_mean"], ROOT_DECIMALS)))
        spreads = _rounded(numbers["root_std"], ROOT_DECIMALS)
    # The file does not store whether few models had a prior, so both are possible.
    priors = (False, True) if models < FEW else (False,)
    possible = []
    for (mean, centre), spread, k, prior in product(centres, spreads, _rounded(numbers["k"], K_DECIMALS), priors):
        budget = budget_of(about, mean, budgets, models)
        possible.append(Calibrated(about, mean, numbers["std"], centre, spread, k, models, budget, prior=prior))
    return first_departure(check, possible, ("threshold", "minimum_detectable_drop"), by=_OWN)


def first_departure(check: Check, possible: Sequence[Calibrated], keys: Iterable[str], *, by: str) -> str:
    """Return the error for the first of these keys with a value outside the range of the `possible` thresholds.

    `informational` must also agree: given if all possible thresholds give a reason, absent if none does.
    """
    written = [item.written for item in possible]
    for key in keys:
        low, high = min(numbers[key] for numbers in written), max(numbers[key] for numbers in written)
        found = getattr(check.panel, key)
        if found is None or not low <= found <= high:
            return departed(check, key, found, f"{low:g}" if low == high else f"{low:g} to {high:g}", by=by)
    reasons = {item.informational for item in possible}
    if bool(check.informational) in {bool(reason) for reason in reasons}:
        return ""
    return departed(check, "informational", check.informational, repr(max(reasons)), by=by)


def _rounded(value: float, digits: int) -> tuple[float, float]:
    half = _HALF * 10**-digits
    return value - half, value + half
