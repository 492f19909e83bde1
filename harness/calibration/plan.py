"""What more retrains would gain: the rows that would gate, and the smallest loss that they would notice."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.calibration.bounds import bounds_of
from harness.calibration.reach import PROVISIONAL
from harness.measures import Unit
from harness.networks.training import seconds_of_training
from harness.run.plan import duration

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.calibration.bounds import Calibrated
    from harness.calibration.panel import Panel

SIZES = (3, 5, 8, 20)
_DRAWS = 50_000
"""Of the bootstrap for panels that do not exist: an estimate is enough."""


def expected(panel: Panel, budgets: Mapping[str, float], retrains: int) -> dict[str, list[Calibrated]]:
    """Return, by family, the rows that would gate with so many retrains that spread as those of the panel do.

    Rows of which one or two networks tell nothing are left out.
    """
    gates: dict[str, list[Calibrated]] = {family: [] for family in panel.families}
    for item in bounds_of(panel, budgets, retrains=retrains, draws=_DRAWS):
        if not item.not_gated and (item.prior or len(panel.members) >= PROVISIONAL):
            gates[item.row.family].append(item)
    return gates


def plan_lines(panel: Panel, budgets: Mapping[str, float]) -> list[str]:
    """Return a table: for each family and number of retrains the rows that gate, and the smallest loss detected.

    What more retrains cost is by the times of those at hand, where the history beside a checkpoint tells of them.
    """
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
    times = [time for member in panel.members if (time := seconds_of_training(Path(member.path))) is not None]
    if times:
        each_time = sum(times) / len(times)
        costs = "".join(f"{duration(count * each_time) if count else '-':>22}" for count in more)
        lines.append(f"{f'which takes, at {duration(each_time)} each':<39}{costs}")
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
