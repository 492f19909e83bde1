"""Panel thresholds compared with the panel's record, the file with the measurements of each reference model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.calibration.panel import read_panel
from harness.calibration.thresholds import standard_deviations, variances_of
from harness.checks import ChecksError
from harness.measures.panel.threshold import HALF, ROOT_DECIMALS, decimals, on_scales

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.calibration.panel import Panel
    from harness.checks import ChecksFile


def expect_rows_of_panel(checks: ChecksFile, root: Path) -> None:
    """Raise `ChecksError` for a panel threshold with other numbers than the panel has, in the folder `root`.

    Without the panel's file, nothing is compared. The multiplier k is in the row alone, and bound by its budget.
    """
    named = checks.recipe.get("panel")
    rows = [check for check in checks.checks if check.panel is not None]
    if not rows or named is None or not (path := root / str(named)).exists():
        return
    known = _numbers_of(read_panel(path, checks))
    for check in rows:
        again = f"restore the row, or calibrate its family again (--family {check.family})"
        if check.id not in known:
            raise ChecksError(
                f"{checks.path}: check {check.id!r} has a panel threshold, but {path} has no such check; {again}"
            )
        for key, (expected, precision) in known[check.id].items():
            found = getattr(check.panel, key)
            same = (
                found == expected
                if precision is None
                else abs(found - expected) <= HALF * precision
            )
            if not same:
                raise ChecksError(
                    f"{checks.path}: check {check.id!r}: {key} of the panel threshold is {found!r}, expected "
                    f"{expected!r}, by the panel in {path}; {again}"
                )


def _numbers_of(panel: Panel) -> dict[str, Mapping[str, tuple[Any, float | None]]]:
    """Return the numbers of each row by the panel, with the unit of their last decimal, None for exact ones."""
    found: dict[str, Mapping[str, tuple[Any, float | None]]] = {}
    for family in panel.families:
        rows = panel.family(family)
        values = panel.values(rows)
        stds, centers = (
            standard_deviations(variances_of(panel, rows, values), values, rows),
            on_scales(values, rows).mean(axis=0),
        )
        for row, mean, center, std in zip(rows, values.mean(axis=0), centers, stds, strict=True):
            last, of_roots = 10.0 ** -decimals(row.unit), 10.0**-ROOT_DECIMALS
            root = {"root_mean": (float(center), of_roots), "root_std": (float(std), of_roots)}
            found[row.id] = {
                "n": (row.n, None),
                "reference_models": (len(values), None),
                "conversions": (row.conversions, None),
                "mean": (float(mean), last),
                **(root if row.scale == "root" else {"std": (float(std), last / 10)}),
            }
    return found
