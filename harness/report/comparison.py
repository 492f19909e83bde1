"""Comparison of two models as lines of the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.measures import Unit
from harness.report.failures import kinds_rows
from harness.report.headline import conclusion
from harness.report.tables import left_out, metrics
from harness.report.text import aligned
from harness.run.overview import Clean, Looking

if TYPE_CHECKING:
    from harness.measures.flips import Flips
    from harness.run.overview import Overview


def comparison_lines(overview: Overview, changed: Flips) -> list[str]:
    """Return two models as a table for the terminal; `changed` are the flips from the second to the first."""
    first, second = overview.models
    clean, *others = metrics(overview, {})
    by_class = zip(overview.classes, first[Clean].per_class, second[Clean].per_class, strict=True)
    rates = [(clean.line, clean.rates), *((f"  {name}", [mine, theirs]) for name, mine, theirs in by_class)]
    rates += [
        (line + (f" (of {found[0].n} images)" if found[0] and found[0].n < overview.n else ""), found)
        for _, _, line, found in others
    ]
    rows: list[tuple[str, ...]] = [("", first.name, second.name, "difference")]
    for title, (mine, theirs) in rates:
        if mine and theirs:
            shares = map(Unit.SHARE.format, (mine.value, theirs.value))
            rows.append((title, *shares, Unit.DIFFERENCE.format(mine.value - theirs.value)))
    counts = (first[Clean].confident_errors, second[Clean].confident_errors)
    if counts[0] is not None and counts[1] is not None:
        rows.append(("errors above 90% confidence", *map(str, counts), f"{counts[0] - counts[1]:+d} images"))
    gaps = (first[Clean].calibration_error, second[Clean].calibration_error)
    if gaps[0] is not None and gaps[1] is not None:
        told = Unit.SHARE.told_apart(gaps[0], gaps[1])
        digits = len(told[0].removesuffix("%").partition(".")[2])
        rows.append(("expected calibration error", *told, f"{100 * (gaps[0] - gaps[1]):+.{digits}f} points"))
    looks = (first[Looking].on_object_overall, second[Looking].on_object_overall)
    if looks[0] and looks[1]:
        lifts = (looks[0].lift, looks[1].lift)
        texts = (f"{lift:.2f}" for lift in lifts)
        rows.append(("Grad-CAM mass on the object, lift", *texts, f"{lifts[0] - lifts[1]:+.2f}"))
    lines = [conclusion(overview, changed.as_json()), "", *aligned(rows), *filter(None, [left_out(overview)]), ""]
    titles, kinds = kinds_rows(overview)
    return [*lines, *aligned([titles, *(list(map(str, row)) for row in kinds)])]
