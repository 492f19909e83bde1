"""Run history: the last runs as a part of a report, a page, figures and lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from harness.checks.families import family_in_words, family_title
from harness.measures import Unit
from harness.report.figures import BAD, CHANGE, CurvePlot, HeatMap, Series, curves, heat_maps
from harness.report.page import (
    Illustration,
    Section,
    aligned,
    figures_html,
    folded,
    paragraphs,
    table,
    whole_page,
)
from harness.run.history import LAST, failing_since

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure

    from harness.run.history import History, HistoryLine
    from harness.run.outcome import Outcome

_TITLES = (
    "run (UTC)",
    "candidate",
    "verdict",
    "failing",
    "clean",
    "worst pose",
    "robust accuracy",
    "smallest margin",
)
_LISTED, _TICKS = 20, 5
"""Failing checks that the terminal lists with the start of their failure, and runs with their date
at the axis.
"""
_FULL = 6.0
"""Margin, in standard deviations of reference models, at which colors are full."""
_CURVES = {
    "clean": "clean",
    "worst_pose": "at the worst pose of a check",
    "robust_accuracy": "robust accuracy",
}


def history(outcome: Outcome) -> Section | None:
    """Return the results of the candidates before this one, if any are known."""
    if outcome.history is None or not (now := outcome.history.lines):
        return None
    lines, damaged = outcome.history.series.get(now[-1].series, ())[-LAST:], outcome.history.damaged
    if len(lines) < 2 and not damaged:  # noqa: PLR2004  This run alone.
        return None
    drawn: list[Illustration] = []
    try:
        body = paragraphs(*damaged, kind="worse") + _body(lines)
        drawn = _illustrations(lines)
    except Exception as error:  # Earlier runs cannot spoil this report, whatever their lines hold.
        body = paragraphs(f"The run history cannot be drawn: {error!r}")
    return Section("history", "Run history", body, tuple(drawn))


def history_page(known: History, *, source: str, last: int = LAST) -> str:
    """Return a page of its own with the last runs of each profile on each data.

    `source` names their file.
    """
    sections = [
        Section(f"series-{number}", _title(like, lines[-last:]), _body(lines[-last:]))
        for number, (like, lines) in enumerate(known.series.items(), start=1)
    ]
    lead = paragraphs(f"{len(known.lines)} runs of {source}", *known.damaged)
    return whole_page("History of the model quality gate", lead, sections)


def history_lines(known: History, *, last: int = LAST) -> list[str]:
    """Return the last runs of each profile on each data as tables for the terminal.

    Each failure has its start.
    """
    said: list[str] = []
    for like, every in known.series.items():
        lines = every[-last:]
        said += [_title(like, lines), *aligned([_TITLES, *map(_row, lines)], text=(0, 1, 2, 7)), ""]
        since = _since(lines)
        said += [f"  {check} fails since {first}, {runs}" for check, first, runs in since[:_LISTED]]
        said += [f"  and {len(since) - _LISTED} more checks fail"] if len(since) > _LISTED else []
        said += [""] if since else []
    return said[:-1] or [f"{len(known.lines)} runs, none with the verdict pass or fail"]


def _title(like: tuple[str, str], lines: Sequence[HistoryLine]) -> str:
    profile, data = like
    candidates = f"{len(lines)} candidates" if len(lines) != 1 else "1 candidate"
    name = next((line.data_name for line in reversed(lines) if line.data_name), "")
    return f"{candidates}, {profile} profile, data {f'{name} ({data[:8]})' if name else data[:8]}"


def _body(lines: Sequence[HistoryLine]) -> Markup:
    body = Markup()
    if since := _since(lines):
        rows = table(("check", "fails since", "for"), since)
        body += folded(f"Failing since: {len(since)} checks", rows, opened=True)
    if drawn := _illustrations(lines):
        body += figures_html(drawn)
    return body + folded(
        f"All {len(lines)} runs, the latest first", table(_TITLES, [*map(_row, reversed(lines))])
    )


def _illustrations(lines: Sequence[HistoryLine]) -> list[Illustration]:
    """Return the figures of several runs; one run has none."""
    if len(lines) <= 1:
        return []
    now = lines[-1]
    accuracy = Illustration(
        "Accuracy and failing checks",
        f"The last run of each of {len(lines)} candidates, the latest on the right.",
        f"Accuracy over {len(lines)} runs. The last: clean accuracy {_share(now.clean)}, "
        f"{len(now.failing)} of {now.judged} checks fail.",
        lambda: accuracy_over_runs(lines),
    )
    if not any(line.margins for line in lines):
        return [accuracy]

    margins = [f"{family_title(name)} {margin:+.1f}" for name, margin in now.margins.items()]
    smallest = Illustration(
        "Smallest margin of each behavior",
        "Blue passes, orange with a cross fails. Fading blue is a slow decline.",
        "Distance from the threshold by behavior and run, in standard deviations. "
        f"In the last run: {', '.join(margins)}.",
        lambda: margin_map(_runs(lines), [line.margins for line in lines]),
        is_map=True,
    )
    return [accuracy, smallest]


def _since(lines: Sequence[HistoryLine]) -> list[tuple[str, str, str]]:
    """Return the start of the failure of each check, and the number of its candidates, as text."""
    rows = []
    for check, first, count, before in failing_since(lines):
        runs = f"{count} candidate{'' if count == 1 else 's'} in a row"
        earlier = "" if before else ", or longer: the first one shown"
        rows.append((check, f"{first.date} ({first.candidate[:8]})", runs + earlier))
    return rows


def _row(line: HistoryLine) -> tuple[str, ...]:
    nearest = min(line.margins, key=line.margins.__getitem__, default=None)
    return (
        line.date,
        line.candidate[:8],
        line.verdict,
        f"{len(line.failing)} of {line.judged}",
        *map(_share, (line.clean, line.worst_pose, line.robust_accuracy)),
        "–" if nearest is None else f"{family_in_words(nearest)} {line.margins[nearest]:+.1f}",
    )


def _share(value: float | None) -> str:
    return "–" if value is None else Unit.SHARE.format(value)


def accuracy_over_runs(lines: Sequence[HistoryLine]) -> Figure:
    """Plot accuracy, clean and under pose, for each run, oldest first.

    Below, the number of failing checks.
    """
    from matplotlib.ticker import MaxNLocator

    upper = []
    for name, label in _CURVES.items():
        known = {
            at: 100 * value
            for at, line in enumerate(lines)
            if (value := getattr(line, name)) is not None
        }
        upper.append(Series(label, [*known], [*known.values()]))
    steps = {"color": BAD, "marker": "", "linestyle": "-", "drawstyle": "steps-mid"}
    failing = Series(
        "failing checks", range(len(lines)), [len(line.failing) for line in lines], look=steps
    )
    lower = CurvePlot(
        "run: day, candidate's SHA-256", "failing checks", [failing], limits=(-0.1, None)
    )
    picture = curves(
        CurvePlot("", "accuracy, %", upper, limits=(None, None)), lower, height=4.4, heights=(3, 1)
    )
    named = {at: name for at, name in enumerate(_runs(lines)) if name}
    picture.axes[-1].set_xticks([*named], [*named.values()], rotation=90, fontsize=8)
    picture.axes[-1].yaxis.set_major_locator(MaxNLocator(integer=True, nbins=3))
    return picture


def margin_map(columns: Sequence[str], margins: Sequence[Mapping[str, float]]) -> Figure:
    """Draw the smallest margin of each family, a row, for each of the columns.

    Families from the last column back.
    """
    families = list(dict.fromkeys(family for each in reversed(margins) for family in each))
    values = np.array([[each.get(family, np.nan) for each in margins] for family in families])
    names = [family_in_words(family) for family in families]
    texts = [["×" if value < 0 else "" for value in row] for row in values]
    title = "margin, in standard deviations; × fails"
    shown = HeatMap(title, values, names, CHANGE, (-_FULL, _FULL), texts, columns=columns)
    return heat_maps(shown, x="", y="", height=1.9 + 0.24 * len(names))


def _runs(lines: Sequence[HistoryLine]) -> list[str]:
    """Return names of the runs by day and candidate, the last one among them.

    Empty for those between.
    """
    named = range(len(lines) - 1, -1, len(lines) // -_TICKS)
    return [
        f"{line.date[5:10]} {line.candidate[:6]}" if at in named else ""
        for at, line in enumerate(lines)
    ]
