"""Sections of single families: golden images, groups of images, and other serving pipelines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markupsafe import Markup

from harness.checks.golden import GOLDEN
from harness.checks.slices import SKEW, SLICE
from harness.measures import Unit
from harness.measures.serving import SERVED_CORRECT_PREDICTIONS_LOST, SERVED_PREDICTIONS_CHANGED
from harness.measures.slices import GROUP_ACCURACY, GROUP_DIFFERENCE
from harness.report.check_figures import stated
from harness.report.figures import Series, dots
from harness.report.page import Illustration, Section, figures_html, folded, paragraphs, table
from harness.report.tables import SIGNS
from harness.report.wording import measured_and_required, reference
from harness.run.outcome import worst_first
from harness.run.overview import Rate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from harness.checks import Verdict
    from harness.measures.metric import Metric
    from harness.run.outcome import Outcome

_PICTURED = 48
"""Golden images with a picture on the page, wrong ones first."""
_DRAWN = 40
"""Groups that a figure has room for; those with the lowest accuracy are drawn."""
_LETTERS = 24
"""Letters of a group's name that a figure has room for."""
_LOOKS = {
    "pass": ("passes", "#0072B2", "o"),
    "fail": ("fails", "#C04A00", "X"),
    "informational": ("informational", "#5a626e", "o"),
}
"""Label, color and marker of a group by its status."""
_MOST = 5
"""Skews that a summary names."""


def golden(outcome: Outcome) -> Section | None:
    """Return the golden images, wrong ones first; None without golden images."""
    from harness.report.gallery import thumbnails

    verdicts = worst_first(tuple(one for one in outcome.verdicts if one.check.family == GOLDEN))
    if not verdicts:
        return None
    shown = [
        (outcome.thumbnails[one.check.id], one.check.id, one.check.class_name or "", SIGNS[one.status])
        for one in verdicts[:_PICTURED]
        if one.check.id in outcome.thumbnails
    ]
    rows = [
        (one.check.id, SIGNS[one.status], one.detail, one.check.hand.date if one.check.hand else "") for one in verdicts
    ]
    failed = sum(not one.passed for one in verdicts)
    lead = f"{len(verdicts) - failed} of {len(verdicts)} images that must never be wrong again are correct."
    pictures = thumbnails(f"{len(shown)} of {len(verdicts)} golden images", shown)
    results = folded("Results, and the reason for each image", table(("image", "result", "found", "added"), rows))
    return Section("golden", "Golden set", paragraphs(lead) + pictures + results)


def slices(outcome: Outcome) -> Section | None:
    """Return the accuracy of each group, by column, with the worst group and the gap; None without such rows."""
    verdicts = [one for one in outcome.verdicts if one.check.family == SLICE and one.value is not None]
    if not verdicts:
        return None
    clean = [one.value for one in outcome.verdicts if (one.check.family, one.metric) == ("clean", "accuracy")]
    titles = ("group", "images", "result", "measured", "threshold", "reference models", "")
    parts = []
    for name in dict.fromkeys(str(one.check.keys.get("by")) for one in verdicts):
        own = [one for one in verdicts if one.check.keys.get("by") == name]
        groups = [one for one in own if one.metric == GROUP_ACCURACY.name]
        parts.append(figures_html([_of_groups(name, groups, clean[0] if clean else None)] if groups else ()))
        rows = table(titles, [_row(one) for one in worst_first(tuple(own))])
        parts.append(folded(f"By {name}, as a table: {len(own)} rows", rows))
    return Section("slices", "Groups of images", Markup().join(parts))


def _row(verdict: Verdict) -> tuple[object, ...]:
    group = str(verdict.check.keys.get("group") or verdict.about)
    if verdict.metric == GROUP_DIFFERENCE.name:
        group += ", less the others"
    said = verdict.detail if verdict.metric != GROUP_ACCURACY.name else ""
    why = verdict.check.informational if verdict.status == "informational" else ""
    more = "; ".join(filter(None, (verdict.excused, said, why)))
    values = *measured_and_required(verdict), reference(verdict)
    return group, verdict.out_of, SIGNS[verdict.status], *values, more


def _of_groups(name: str, groups: Sequence[Verdict], overall: float | None) -> Illustration:
    lowest = sorted(groups, key=lambda one: one.value or 0.0)
    left_out = f" The {_DRAWN} lowest of {len(groups)}." if len(groups) > _DRAWN else ""
    spoken = ", ".join(f"{one.check.keys.get('group')} {Unit.SHARE.format(one.value or 0.0)}" for one in lowest[:5])
    return Illustration(
        f"Accuracy by {name}",
        "Each group with its 95% interval, and its number of images in brackets. The upright stroke is the threshold."
        f"{left_out}",
        f"Accuracy of {len(groups)} groups by {name}. Lowest: {spoken}.",
        lambda: group_dots(lowest[:_DRAWN], overall),
    )


def group_dots(verdicts: Sequence[Verdict], overall: float | None = None) -> Figure:
    """Draw the accuracy of each group with its 95% interval, threshold and panel; `overall` is of all images."""
    series = []
    for status, (label, color, marker) in _LOOKS.items():
        rates = {
            at: Rate(one.value or 0.0, *(one.interval or (0.0, 1.0)), one.n)
            for at, one in enumerate(verdicts)
            if (one.status if one.threshold is not None else "informational") == status
        }
        face = "white" if status == "informational" else color
        look = {"color": color, "marker": marker, "markersize": 7, "markerfacecolor": face}
        series.append(Series.of_rates(label, rates, **look))
    return dots(
        [f"{str(one.check.keys.get('group'))[:_LETTERS]} ({one.n:,})" for one in verdicts],
        *series,
        x="clean accuracy, %",
        band=stated(dict(enumerate(verdicts))),
        thresholds={at: 100 * one.threshold for at, one in enumerate(verdicts) if one.threshold is not None},
        upright=None if overall is None else (100 * overall, "all images"),
        apart=0,
    )


def serving(outcome: Outcome) -> Section | None:
    """Return each skew with what it loses and changes, the greatest loss first; None without such rows."""
    metrics = SERVED_CORRECT_PREDICTIONS_LOST, SERVED_PREDICTIONS_CHANGED
    ordered = _greatest_loss_first(outcome, *metrics)
    if not ordered:
        return None
    skews: dict[str, dict[str, Verdict]] = {}
    for one in ordered:
        skews.setdefault(str(one.check.keys.get("skew")), {})[one.metric] = one
    rows: list[tuple[str, ...]] = []
    for skew, of in skews.items():
        both = [of.get(metric.name) for metric in metrics]
        reached = ", ".join(filter(None, (reference(one) for one in both if one)))
        rows.append((skew, *map(_cell, both), reached, next(iter(of.values())).detail))
    titles: tuple[str, ...] = (
        "served with",
        "correct predictions lost",
        "predictions changed",
        "reference models",
        "what changes",
    )
    if not any(row[3] for row in rows):
        titles, rows = titles[:3] + titles[4:], [row[:3] + row[4:] for row in rows]
    worst, failing = ordered[0].detail, sum(one.status == "fail" for one in ordered)
    number = "1 pipeline" if len(skews) == 1 else f"{len(skews)} pipelines"
    said = f"{number}, {failing} of {len(ordered)} checks fail" if failing else f"{number}, and no check of them fails"
    body = paragraphs(
        f"The reference pipeline: {outcome.data.get('pipeline', 'unknown')}.",
        f"The costliest of the pipelines below: {worst}." if worst else "",
    )
    body += folded(said, table(titles, rows), opened=bool(failing))
    return Section("serving", "Served through another pipeline", body)


def losses_by_serving(outcome: Outcome) -> list[str]:
    """Return the skews that lose the most, greatest loss first, as lines of text; none where nothing is lost."""
    measured = _greatest_loss_first(outcome, SERVED_CORRECT_PREDICTIONS_LOST)
    return [one.detail for one in measured[:_MOST] if (one.value or 0) > 0]


def _greatest_loss_first(outcome: Outcome, *metrics: Metric) -> list[Verdict]:
    """Return verdicts of skews by the loss of their skew, then by the share that changes, each skew's together."""
    named = {metric.name for metric in metrics}
    verdicts = [one for one in outcome.verdicts if one.check.family == SKEW and one.metric in named]
    verdicts = [one for one in verdicts if one.value is not None]
    values = {(one.check.keys.get("skew"), one.metric): one.value or 0.0 for one in verdicts}

    def place(verdict: Verdict) -> tuple[float, float, str, str]:
        skew = verdict.check.keys.get("skew")
        changed = values.get((skew, SERVED_PREDICTIONS_CHANGED.name), 0.0)
        # Without a measured loss, no more than what changes can be lost.
        lost = values.get((skew, SERVED_CORRECT_PREDICTIONS_LOST.name), changed)
        return -lost, -changed, str(skew), verdict.metric

    return sorted(verdicts, key=place)


def _cell(verdict: Verdict | None) -> str:
    if verdict is None:
        return ""
    return f"{', '.join(filter(None, measured_and_required(verdict)))}: {SIGNS[verdict.status]}"
