"""Comparison of two models as lines of the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.measures import Unit
from harness.report.failures import kinds_rows
from harness.report.headline import conclusion
from harness.report.tables import left_out
from harness.report.text import aligned
from harness.run.overview import Clean, Looking, Moved, RobustAccuracy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.measures.flips import Flips
    from harness.run.overview import Overview, Rate


def comparison_lines(overview: Overview, changed: Flips) -> list[str]:
    """Return two models as a table for the terminal; `changed` are the flips from the second to the first."""
    first, second = overview.models
    rows: list[tuple[str, ...]] = [("", first.name, second.name, "difference")]

    def add(title: str, mine: Rate | None, theirs: Rate | None, *, of_sample: bool = False) -> None:
        if mine and theirs:
            change = Unit.DIFFERENCE.format(mine.value - theirs.value)
            title += f" (of {mine.n} images)" if of_sample and mine.n < overview.n else ""
            rows.append((title, Unit.SHARE.format(mine.value), Unit.SHARE.format(theirs.value), change))

    add("clean accuracy", first[Clean].accuracy, second[Clean].accuracy)
    for name, mine, theirs in zip(overview.classes, first[Clean].per_class, second[Clean].per_class, strict=True):
        add(f"  {name}", mine, theirs)
    add("accuracy at the corners of ±10°, ±2 px", first[Moved].corners, second[Moved].corners, of_sample=True)
    robust = (first[RobustAccuracy].robust_accuracy, second[RobustAccuracy].robust_accuracy)
    add("robust accuracy (225 poses)", *robust, of_sample=True)
    counts = (first[Clean].confident_errors, second[Clean].confident_errors)
    if counts[0] is not None and counts[1] is not None:
        rows.append(("errors above 90% confidence", *map(str, counts), f"{counts[0] - counts[1]:+d} images"))
    gaps = (first[Clean].calibration_error, second[Clean].calibration_error)
    if gaps[0] is not None and gaps[1] is not None:
        shares = Unit.SHARE.told_apart(gaps[0], gaps[1])
        digits = len(shares[0].removesuffix("%").partition(".")[2])
        rows.append(("expected calibration error", *shares, f"{100 * (gaps[0] - gaps[1]):+.{digits}f} points"))
    looks = (first[Looking].on_object_overall, second[Looking].on_object_overall)
    if looks[0] and looks[1]:
        lifts = (looks[0].lift, looks[1].lift)
        texts = (f"{lift:.2f}" for lift in lifts)
        rows.append(("Grad-CAM mass on the object, lift", *texts, f"{lifts[0] - lifts[1]:+.2f}"))
    lines = [conclusion(overview, changed.as_json()), "", *aligned(rows)]
    missing = left_out(overview)
    return [*lines, *([missing] if missing else []), "", *aligned(_as_text(kinds_rows(overview)))]


def _as_text(table: tuple[Sequence[str], Sequence[Sequence[object]]]) -> list[list[str]]:
    titles, rows = table
    return [list(titles), *([str(cell) for cell in row] for row in rows)]
