"""Groups of images, such as those of a camera or site, as a part of the page: a dot for each, and a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markupsafe import Markup

from harness.checks.slices import SLICE
from harness.measures import Unit
from harness.measures.slices import GROUP_ACCURACY, GROUP_DIFFERENCE
from harness.report.figures import dots, figure, spread, styled
from harness.report.illustrations import Illustration, figures_html
from harness.report.page import Section, folded, table
from harness.report.tables import SIGNS
from harness.report.wording import measured_and_required, reference
from harness.run.outcome import worst_first
from harness.run.overview import Rate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from harness.checks import Verdict
    from harness.run.outcome import Outcome

_DRAWN = 40
"""Groups that a figure has room for; those with the lowest accuracy are drawn."""
_LETTERS = 24
"""Letters of a group's name that a figure has room for."""
_HOLDS, _FAILS, _REPORTED = ("#0072B2", "o"), ("#C04A00", "X"), ("#5a626e", "o")


def slices(outcome: Outcome) -> Section | None:
    """Return the accuracy of each group, by column, with the worst group and the gap; None without such rows."""
    verdicts = [one for one in outcome.verdicts if one.check.family == SLICE and one.value is not None]
    if not verdicts:
        return None
    columns = list(dict.fromkeys(str(one.check.keys.get("by")) for one in verdicts))
    parts = [_column(name, [one for one in verdicts if one.check.keys.get("by") == name], outcome) for name in columns]
    return Section("slices", "Groups of images", Markup().join(parts))


def _column(name: str, verdicts: Sequence[Verdict], outcome: Outcome) -> Markup:
    groups = [one for one in verdicts if one.metric == GROUP_ACCURACY.name]
    clean = [one.value for one in outcome.verdicts if (one.check.family, one.metric) == ("clean", "accuracy")]
    titles = ("group", "images", "result", "measured", "threshold", "reference models", "")
    drawn = figures_html([_illustration(name, groups, clean[0] if clean else None)] if groups else ())
    rows = table(titles, [_row(one) for one in worst_first(tuple(verdicts))])
    return drawn + folded(f"By {name}, as a table: {len(verdicts)} rows", rows)


def _row(verdict: Verdict) -> tuple[object, ...]:
    measured, required = measured_and_required(verdict)
    group = str(verdict.check.keys.get("group") or verdict.about)
    if verdict.metric == GROUP_DIFFERENCE.name:
        group += ", less the others"
    said = verdict.detail if verdict.metric != GROUP_ACCURACY.name else ""
    why = verdict.check.informational if verdict.status == "informational" else ""
    sign = SIGNS[verdict.status]
    return (
        group,
        verdict.out_of,
        sign,
        measured,
        required,
        reference(verdict),
        "; ".join(filter(None, (verdict.excused, said, why))),
    )


def _illustration(name: str, groups: Sequence[Verdict], overall: float | None) -> Illustration:
    lowest = sorted(groups, key=lambda one: one.value or 0.0)
    left_out = f" The {_DRAWN} lowest of {len(groups)}." if len(groups) > _DRAWN else ""
    spoken = ", ".join(f"{one.check.keys.get('group')} {Unit.SHARE.format(one.value or 0.0)}" for one in lowest[:5])
    return Illustration(
        f"Accuracy by {name}",
        "A dot is a group with its 95% interval, and its number of images in brackets. Round passes, a cross fails, "
        "hollow is informational. The upright stroke is the threshold, the gray band the reference models, and the "
        f"dotted line all images.{left_out}",
        f"Accuracy of {len(groups)} groups by {name}. Lowest: {spoken}.",
        lambda: group_dots(lowest[:_DRAWN], overall),
    )


@styled
def group_dots(verdicts: Sequence[Verdict], overall: float | None = None) -> Figure:
    """Plot the accuracy of each group with its 95% interval, threshold and panel; `overall` is of all images."""
    picture = figure(height=1.1 + 0.24 * len(verdicts))
    axes = picture.subplots()
    for at, verdict in enumerate(verdicts):
        known = verdict.check.reference
        if known and known.mean is not None and known.std is not None:
            spread(axes, at, known.mean, known.std, height=0.7, color="0.88")
        if verdict.threshold is not None:
            axes.plot([100 * verdict.threshold], [at], "|", color="0.2", markersize=11, markeredgewidth=1.6)
        color, marker = {"fail": _FAILS, "pass": _HOLDS}.get(verdict.status, _REPORTED)
        face = color if verdict.threshold is not None else "white"
        rate = Rate(verdict.value or 0.0, *(verdict.interval or (0.0, 1.0)), verdict.n)
        dots(axes, [at], [rate], across=True, color=color, marker=marker, markersize=7, markerfacecolor=face)
    if overall is not None:
        axes.axvline(100 * overall, color="0.4", linewidth=1, linestyle=":")
    names = [f"{str(verdict.check.keys.get('group'))[:_LETTERS]} ({verdict.n:,})" for verdict in verdicts]
    axes.set_yticks(range(len(verdicts)), names, fontsize=9)
    axes.set_ylim(len(verdicts) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("clean accuracy, %", fontsize=9)
    return picture
