"""What more retrains would gain: the rows that would gate, and the smallest loss that they would notice."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from harness.calibration.bounds import Calibrated, budget_of
from harness.calibration.reach import PROVISIONAL, reaches
from harness.measures import Unit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.calibration.panel import Panel

SIZES = (3, 5, 8, 20)
_DRAWS = 50_000
"""Of the bootstrap for panels that do not exist: an estimate is enough."""


def expected(panel: Panel, budgets: Mapping[str, float], retrains: int) -> dict[str, list[Calibrated]]:
    """Return, by family, the rows that would gate with so many retrains that spread as those of the panel do.

    Rows of which one or two networks tell nothing are left out.
    """
    gates: dict[str, list[Calibrated]] = {}
    for family in panel.families:
        rows = panel.family(family)
        values, sharing = panel.values(rows), rows
        for _ in range(2):  # Rows that are no gates leave their share to the others.
            reached = reaches(panel, rows, sharing, values, retrains=retrains, draws=_DRAWS)
            items = [
                replace(
                    Calibrated.of(row, column, **asdict(reach), budget=budget_of(row, column, budgets)),
                    retrains=retrains,
                )
                for row, column, reach in zip(rows, values.T, reached, strict=True)
            ]
            known = [item for item in items if item.prior or len(values) >= PROVISIONAL]
            gates[family] = [item for item in known if not item.not_gated]
            sharing = tuple(item.row for item in gates[family]) or rows
    return gates


def plan_lines(panel: Panel, budgets: Mapping[str, float]) -> list[str]:
    """Return a table: for each family and number of retrains the rows that gate, and the smallest loss detected."""
    have, epochs = len(panel.members), panel.recipe.get("epochs")
    found = {count: expected(panel, budgets, count) for count in SIZES}
    heads = "".join(f"{f'{count} retrains':>22}" for count in SIZES)
    lines = [f"{'rows that gate, smallest loss detected':<39}{heads}"]
    for family in panel.families:
        cells = [_cell(found[count][family]) for count in SIZES]
        lines.append(f"  {family:<14} of {len(panel.family(family)):>3} {'':<17}" + "".join(f"{x:>22}" for x in cells))
    totals = [sum(map(len, found[count].values())) for count in SIZES]
    lines.append(f"{'all':<16} of {len(panel.rows):>3} {'':<17}" + "".join(f"{total:>22}" for total in totals))
    more = [max(count - have, 0) for count in SIZES]
    each = f", of {epochs} epochs each" if epochs else ""
    lines.append(f"{f'to train besides the {have} at hand{each}':<39}" + "".join(f"{count:>22}" for count in more))
    if have < PROVISIONAL:
        lines.append("what rows would do that one or two networks tell nothing of is not known yet, and not counted")
    return lines


def _cell(gates: list[Calibrated]) -> str:
    if not gates:
        return "none"
    best = min(gates, key=lambda item: item.detects / item.budget)
    unit = best.row.unit
    detected = f"{best.detects:.0f} images" if unit is Unit.IMAGES else unit.format(best.detects, decimals=4)
    return f"{len(gates)}, {detected}"
