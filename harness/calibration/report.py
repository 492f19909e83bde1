"""What calibration tells on the terminal: bounds by family, rows that cannot be gates, false alarms, power."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.calibration.bounds import false_alarms
from harness.calibration.moderated import FEW
from harness.calibration.reach import PROVISIONAL, reaches
from harness.measures import Unit
from harness.measures.panel.consensus import LOST_CONSENSUS, LOST_OF_A_CLASS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.calibration.bounds import Calibrated
    from harness.calibration.panel import Panel, Row

_CONSENSUS = {LOST_CONSENSUS.name, LOST_OF_A_CLASS.name}
_PANEL_SIZES = (3, 5, 8, 10, 12, 15, 20, 25, 30, 40, 60)
_SEEING_THE_SAME = {
    "clean": "consensus-clean",
    "class": "consensus-class",
    "flip": "consensus-mirrored",
    "pose": "consensus-corners",
    "corruption": "consensus-damaged",
}
"""The consensus row, as shipped, that sees what the rows of a family see."""
_DRAWS = 50_000
"""Of the bootstrap for panels that do not exist: an estimate is enough."""


def calibration_lines(panel: Panel, calibrated: Sequence[Calibrated], *, by_hand: frozenset[str]) -> list[str]:
    """Return the summary of a calibration."""
    lines = [
        f"{'family':<12} {'rows':>4} {'gated':>5} {'k':>5}  smallest loss detected with 95% power, best and worst row"
    ]
    for family in panel.families:
        items = [item for item in calibrated if item.row.family == family]
        gated = sorted((item for item in items if not item.not_gated), key=lambda item: item.detects)
        span = f"{_number(gated[0])} to {_number(gated[-1])}" if gated else "none is gated"
        k = f"{gated[0].k:.2f}" if gated else ""
        lines.append(f"{family:<12} {len(items):>4} {len(gated):>5} {k:>5}  {span}")
    lines += [f"not gated: {item.row.id}: {item.not_gated}" for item in calibrated if item.not_gated]
    if held := sorted(by_hand & {item.row.id for item in calibrated}):
        lines.append(f"bounds set by hand win over the panel's: {', '.join(held)}")
    alarms = false_alarms(panel, list(calibrated))
    if len(panel.members) >= PROVISIONAL:
        lines.append(f"leave-one-out false alarms: {len(alarms)} of {len(panel.members)} networks")
    lines += [f"  {alarm}" for alarm in alarms]
    return lines


def power_lines(panel: Panel, calibrated: Sequence[Calibrated], *, drop: float | None = None) -> list[str]:
    """Return, for each family and row, the smallest loss detected with 95% power and the retrains for the wanted.

    The wanted loss is `drop`, in the unit of the metric, or else the row's budget.
    """
    lines = [f"{'row':<34} {'retrains mean':>13} {'± std':>8} {'k':>5} {'detects':>8} {'wanted':>8}  retrains needed"]
    for family in panel.families:
        items = [item for item in calibrated if item.row.family == family]
        gated = tuple(item.row for item in items if not item.not_gated)
        rows = gated or panel.family(family)
        values, every = panel.values(panel.family(family)), panel.family(family)
        reached = {n: reaches(panel, every, rows, values, retrains=n, draws=_DRAWS) for n in _PANEL_SIZES}
        best = min(items, key=lambda item: item.detects)
        lines.append(f"{family}: {len(gated)} of {len(items)} rows gated, the best detects {_number(best)}")
        lines += _beside(family, items, calibrated)
        for at, item in enumerate(items):
            wanted = item.budget if drop is None else drop
            needed = next(
                (
                    n
                    for n, reach in reached.items()
                    if (item.prior or n >= FEW) and item.detects_with(reach[at].k, n) <= wanted
                ),
                None,
            )
            lines.append(
                f"  {item.row.id:<32} {_value(item.row, item.mean):>13} {_value(item.row, item.std, digits=1):>8} "
                f"{item.k:>5.2f} {_value(item.row, item.detects):>8} {_value(item.row, wanted):>8}  "
                + (f"{needed}" if needed else f"more than {_PANEL_SIZES[-1]}")
                + (" (not gated)" if item.not_gated else "")
            )
    return lines


def _beside(family: str, items: Sequence[Calibrated], calibrated: Sequence[Calibrated]) -> list[str]:
    """Return what the consensus row that sees the same images detects beside a family's best row of accuracy."""
    by_id = {item.row.id: item for item in calibrated if item.row.metric in _CONSENSUS}
    beside = by_id.get(_SEEING_THE_SAME.get(family, ""))
    accuracies = [item for item in items if item.row.metric == "accuracy"]
    if beside is None or not accuracies:
        return []
    best = min(accuracies, key=lambda item: item.detects)
    return [
        f"  beside it {beside.row.id} detects {beside.detects:.0f} images lost of those that every retrain gets right, "
        f"{best.row.id} {best.detects * best.row.n:.0f} of {best.row.n} lost net"
    ]


def _number(item: Calibrated) -> str:
    return _value(item.row, item.detects) + (" images" if item.row.unit is Unit.IMAGES else "")


def _value(row: Row, value: float, *, digits: int = 0) -> str:
    return f"{value:.{digits}f}" if row.unit is Unit.IMAGES else row.unit.format(value, decimals=4)
