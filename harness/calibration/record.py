"""Panel thresholds compared with the panel's record, the file with the measurements of each reference model."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from harness.calibration.panel import read_panel
from harness.calibration.thresholds import at_means, spread_of
from harness.checks import ChecksError
from harness.checks.provenance import departed, first_departure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from harness.calibration.panel import Panel
    from harness.checks import Check, ChecksFile
    from harness.measures.metric import Curve
    from harness.measures.panel.threshold import Calibrated

_FREE = 1e-9
"""Relative difference between processors, far below a decimal of the file."""


def expect_thresholds_of_record(checks: ChecksFile, root: Path) -> None:
    """Raise `ChecksError` for a panel threshold that the file's own panel record does not give.

    The record is in the folder `root` of the project. Without it, nothing is compared.
    """
    rows = [check for check in checks.checks if check.panel is not None]
    if not rows or (path := _record_of(checks, root)) is None:
        return
    recorded = recorded_thresholds(read_panel(path, checks), checks.budgets)
    for check in rows:
        if check.id not in recorded:
            raise ChecksError(
                f"{checks.path}: check {check.id!r} has a panel threshold, but {path} has no such check; calibrate its "
                f"family (--family {check.family}), or remove `panel` from the row"
            )
        if found := _departure(check, recorded[check.id], by=f"the panel in {path}"):
            raise ChecksError(f"{checks.path}: {found}")


def recorded_curves(checks: ChecksFile, root: Path) -> dict[str, tuple[Curve, ...]]:
    """Return the curves of the reference models, by name, from the file's own panel record; none without a record.

    Raises `InputError` for a panel that does not fit the checks.
    """
    path = _record_of(checks, root)
    return {} if path is None else read_panel(path, checks).curves()


def _record_of(checks: ChecksFile, root: Path) -> Path | None:
    named = checks.recipe.get("panel")
    return path if named is not None and (path := root / str(named)).exists() else None


def recorded_thresholds(panel: Panel, budgets: Mapping[str, float]) -> dict[str, tuple[Calibrated, ...]]:
    """Return the thresholds of a panel's checks by their ids: one for each recorded multiplier, the latest first.

    Without a multiplier, a check has its mean, and a threshold in the file departs from that.
    """
    recorded = {}
    for family in panel.families:
        checks = panel.family(family)
        values = panel.values(checks)
        spread = spread_of(panel, checks, values)
        for item in at_means(spread, checks, values, budgets, reference_models=len(values)):
            ks = reversed(panel.multipliers.get(item.check.id, (0.0,)))
            recorded[item.check.id] = tuple(replace(item, k=k) for k in ks)
    return recorded


def _departure(check: Check, recorded: Sequence[Calibrated], *, by: str) -> str:
    assert check.panel is not None
    measured, found, first = recorded[0].check, check.panel.definition, ""
    if not found or not measured.definition.startswith(found):
        return departed(check, "definition", found, repr(measured.definition[:12]), by=by)
    if check.panel.conversions != measured.conversions:
        return departed(check, "conversions", check.panel.conversions, repr(measured.conversions), by=by)
    if check.direction not in {None, measured.direction}:
        return departed(check, "direction", check.direction, repr(measured.direction), by=by)
    for item in reversed(recorded):
        scaled = {name: getattr(item, name) for name in ("mean", "std", "centre", "spread", "k")}
        factors = (1, 1 - _FREE, 1 + _FREE)
        possible = [replace(item, **{name: each * factor for name, each in scaled.items()}) for factor in factors]
        first = first_departure(check, possible, item.written, by=by)
        if not first:
            return ""
    return first
