"""Panel thresholds of a checks file compared with the panel, which has the models' values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.calibration.panel import read_panel
from harness.calibration.thresholds import standard_deviations, variances_of
from harness.checks import ChecksError
from harness.measures.panel.threshold import HALF, ROOT_DECIMALS, decimals, on_scales

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.calibration.panel import Panel
    from harness.checks import ChecksFile


@dataclass(frozen=True)
class _Expected:
    """A value that a row must have; `last_decimal` is the unit of its last one, 0 if exact."""

    value: float | str
    last_decimal: float = 0.0

    def agrees_with(self, value: float | str) -> bool:
        if isinstance(value, str) or isinstance(self.value, str) or not self.last_decimal:
            return value == self.value
        return abs(value - self.value) <= HALF * self.last_decimal


def expect_rows_of_panel(checks: ChecksFile, root: Path) -> None:
    """Raise `ChecksError` for a panel threshold with other numbers than the panel has.

    Without the panel's file, nothing is compared. The multiplier k is not compared, because the
    row alone has it.

    Args:
        checks: The checks file, whose recipe names the panel's file.
        root: The folder that this name is relative to.
    """
    name = checks.recipe.get("panel")
    rows = [check for check in checks.checks if check.panel is not None]
    if not rows or name is None:
        return
    path = root / str(name)
    if not path.exists():
        return

    expected_by_id = _expected_rows(read_panel(path, checks))
    for check in rows:
        remedy = f"restore the row, or calibrate its family again (--family {check.family})"
        if check.id not in expected_by_id:
            raise ChecksError(
                f"{checks.path}: check {check.id!r} has a panel threshold, but {path} has no such "
                f"check; {remedy}"
            )
        for key, expected in expected_by_id[check.id].items():
            value = getattr(check.panel, key)
            if not expected.agrees_with(value):
                raise ChecksError(
                    f"{checks.path}: check {check.id!r}: {key} of the panel threshold is "
                    f"{value!r}, expected {expected.value!r}, by the panel in {path}; {remedy}"
                )


def _expected_rows(panel: Panel) -> dict[str, Mapping[str, _Expected]]:
    """Return the numbers that the panel gives for the row of each check, by the check's id."""
    rows: dict[str, Mapping[str, _Expected]] = {}
    for family in panel.families:
        checks = panel.family(family)
        values = panel.values(checks)
        means = values.mean(axis=0)
        centres = on_scales(values, checks).mean(axis=0)
        stds = standard_deviations(variances_of(panel, checks, values), values, checks)

        for at, check in enumerate(checks):
            last_decimal = 10.0 ** -decimals(check.unit)
            row = {
                "n": _Expected(check.n),
                "reference_models": _Expected(len(values)),
                "conversions": _Expected(check.conversions),
                "mean": _Expected(float(means[at]), last_decimal),
            }
            if check.scale == "root":
                root_decimal = 10.0**-ROOT_DECIMALS
                row["root_mean"] = _Expected(float(centres[at]), root_decimal)
                row["root_std"] = _Expected(float(stds[at]), root_decimal)
            else:
                row["std"] = _Expected(float(stds[at]), last_decimal / 10)
            rows[check.id] = row
    return rows
