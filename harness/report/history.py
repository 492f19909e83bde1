"""Run history: the last runs as a part of a report, as a page, as figures, and as lines for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from harness.checks.families import family_title
from harness.measures import Unit
from harness.report.figures import WIDTH, figure, styled
from harness.report.page import Illustration, Section, figures_html, folded, paragraphs, table, whole_page
from harness.report.tables import aligned
from harness.run.history import LAST, failing_since

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from harness.run.history import History, Line, Since
    from harness.run.outcome import Outcome

_TITLES = ("run (UTC)", "candidate", "verdict", "failing", "clean", "worst pose", "robust accuracy", "smallest margin")
_UNFOLDED = 10
"""Failing checks that a page lists unfolded."""
_LISTED = 20
"""Failing checks that the terminal lists with the start of their failure."""
_TICKS = 5
"""Runs that have their date at the axis, at most."""
_FULL = 6.0
"""Margin, in standard deviations of reference models, at which colors are full."""
_LETTERS = 24
"""Letters of the name of a model, or of a family, that are shown."""
_CURVES = (
    ("clean", "clean", "#333333", "o", "-"),
    ("worst_pose", "at the worst pose of a check", "#009E73", "^", ":"),
    ("robust_accuracy", "robust accuracy", "#CC79A7", "s", "--"),
)
_FAILING, _HOLDING = "#C04A00", "#0072B2"
"""The page's colors of what fails and what passes."""


def history(outcome: Outcome) -> Section | None:
    """Return the results of the candidates before this one, if any are known."""
    if outcome.history is None or not (now := outcome.history.lines):
        return None
    lines = outcome.history.series(now[-1].series)[-LAST:]
    if len(lines) < 2 and not outcome.history.damaged:  # noqa: PLR2004  This run alone.
        return None
    try:
        body = _body(lines, outcome.history.damaged)
    except Exception as error:  # Earlier runs cannot spoil this report, whatever their lines hold.
        body = paragraphs(f"The run history cannot be drawn: {error!r}")
    return Section("history", "Run history", body)


def history_page(known: History, *, source: str, last: int = LAST) -> str:
    """Return a page of its own with the last runs of each profile on each data; `source` names their file."""
    sections = [
        Section(f"series-{number}", _title(like, lines), _body(lines, ()))
        for number, like in enumerate(known.all_series, start=1)
        if (lines := known.series(like)[-last:])
    ]
    lead = paragraphs(f"{len(known.lines)} runs of {source}", *known.damaged)
    return whole_page("History of the model quality gate", lead, sections)


def history_lines(known: History, *, last: int = LAST) -> list[str]:
    """Return the last runs of each profile on each data as tables for the terminal, with the start of each failure."""
    said: list[str] = []
    if not known.all_series:
        return [f"{len(known.lines)} runs, none with the verdict pass or fail"]
    for like in known.all_series:
        lines = known.series(like)[-last:]
        said += [_title(like, lines), *aligned([_TITLES, *map(_row, lines)], text=(0, 1, 2, 7)), ""]
        since = failing_since(lines)
        said += [f"  {check} fails since {first}, {runs}" for check, first, runs in map(_told, since[:_LISTED])]
        said += [f"  and {len(since) - _LISTED} more checks fail"] * (len(since) > _LISTED)
        said += [""] * bool(since)
    return said[:-1]


def _title(like: tuple[str, str], lines: Sequence[Line]) -> str:
    profile, data = like
    candidates = f"{len(lines)} candidates" if len(lines) != 1 else "1 candidate"
    name = next((line.data_name for line in reversed(lines) if line.data_name), "")
    return f"{candidates}, {profile} profile, data {f'{name} ({data[:8]})' if name else data[:8]}"


def _body(lines: Sequence[Line], damaged: Sequence[str]) -> Markup:
    body = paragraphs(*damaged, kind="worse")
    if since := failing_since(lines):
        shown = table(("check", "fails since", "for"), [_told(one) for one in since])
        body += Markup("<h3>Failing since</h3>")
        body += shown if len(since) <= _UNFOLDED else folded(f"{len(since)} checks fail", shown)
    body += figures_html(_illustrations(lines) if len(lines) > 1 else ())
    runs = table(_TITLES, [_row(line) for line in reversed(lines)])
    return body + folded(f"All {len(lines)} runs, the latest first", runs)


def _told(since: Since) -> tuple[str, str, str]:
    first, runs = since.first, f"{since.runs} candidate{'' if since.runs == 1 else 's'} in a row"
    earlier = "" if since.before else ", or longer: the first one shown"
    return since.check, f"{first.date} ({first.candidate[:8]})", runs + earlier


def _row(line: Line) -> tuple[str, ...]:
    nearest = min(line.margins, key=line.margins.__getitem__, default=None)
    return (
        line.date,
        line.candidate[:8],
        line.verdict,
        f"{len(line.failing)} of {line.judged}",
        *map(_share, (line.clean, line.worst_pose, line.robust_accuracy)),
        "–" if nearest is None else f"{nearest} {line.margins[nearest]:+.1f}",
    )


def _illustrations(lines: Sequence[Line]) -> Iterator[Illustration]:
    last = lines[-1]
    first_and_last = (
        f"clean accuracy {_share(line.clean)}, {len(line.failing)} of {line.judged} checks fail"
        for line in (lines[0], last)
    )
    yield Illustration(
        "Accuracy and failing checks",
        f"The last run of each of {len(lines)} candidates, the latest on the right.",
        "Accuracy over {} runs. First: {}; last: {}.".format(len(lines), *first_and_last),
        lambda: accuracy_over_runs(lines),
    )
    if any(line.margins for line in lines):
        tightest = ", ".join(f"{family_title(name)} {margin:+.1f}" for name, margin in last.margins.items())
        yield Illustration(
            "Smallest margin of each behavior",
            "Blue passes, orange with a cross fails. Fading blue is a slow decline.",
            f"Distance from the threshold by behavior and run, in standard deviations. In the last run: {tightest}.",
            lambda: margins_over_runs(lines),
            is_map=True,
        )


def _share(value: float | None) -> str:
    return "–" if value is None else Unit.SHARE.format(value)


@styled
def accuracy_over_runs(lines: Sequence[Line]) -> Figure:
    """Plot accuracy, clean and under pose, for each run, oldest first; below, the number of failing checks."""
    from matplotlib.ticker import MaxNLocator

    picture = figure(height=4.0)
    upper, lower = picture.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    for name, label, color, marker, style in _CURVES:
        known = {at: 100 * value for at, line in enumerate(lines) if (value := getattr(line, name)) is not None}
        if known:
            upper.plot([*known], [*known.values()], color=color, marker=marker, linestyle=style, label=label)
    upper.set_ylabel("accuracy, %")
    picture.legend(loc="outside upper center", ncols=2, fontsize=8)
    failing = [len(line.failing) for line in lines]
    lower.bar(range(len(lines)), failing, color=_FAILING)
    lower.set_ylabel("failing checks")
    lower.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=3))
    lower.set_ylim(bottom=0, top=max(1, *failing) * 1.05)
    _date(lower, lines)
    return picture


@styled
def margins_over_runs(lines: Sequence[Line]) -> Figure:
    """Draw the smallest margin of each family in each run, a column, families from the latest run back."""
    families = list(dict.fromkeys(family for line in reversed(lines) for family in line.margins))
    picture, axes = _margin_map(families, [line.margins for line in lines])
    _date(axes, lines)
    return picture


@styled
def margins_of_models(names: Sequence[str], margins: Sequence[Mapping[str, float]], families: Sequence[str]) -> Figure:
    """Draw the smallest margin of each family, a column for each model."""
    picture, axes = _margin_map(families, margins)
    axes.set_xticks(range(len(names)), [name[:_LETTERS] for name in names], rotation=90, fontsize=8)
    return picture


def _margin_map(names: Sequence[str], margins: Sequence[Mapping[str, float]]) -> tuple[Figure, Axes]:
    """Draw margins by family, a row, in standard deviations of reference models; what fails has a cross."""
    from matplotlib.colors import LinearSegmentedColormap

    values = np.array([[each.get(name, np.nan) for each in margins] for name in names])
    picture = figure(width=WIDTH, height=1.7 + 0.24 * len(names))
    axes = picture.subplots()
    colors = LinearSegmentedColormap.from_list("margins", (_FAILING, "#f7f7f7", _HOLDING))
    shown = axes.imshow(values, cmap=colors, vmin=-_FULL, vmax=_FULL, aspect="auto", interpolation="nearest")
    failing, columns = np.nonzero(values < 0)
    axes.plot(columns, failing, "x", color="#1b1e23", markersize=4, linestyle="none")
    axes.set_yticks(range(len(names)), [name[:_LETTERS] for name in names], fontsize=9)
    axes.grid(visible=False)
    bar = picture.colorbar(shown, ax=axes, location="top", shrink=0.9, aspect=40, extend="both")
    bar.set_label("margin in standard deviations of the reference models; × fails", fontsize=9)
    return picture, axes


def _date(axes: Axes, lines: Sequence[Line]) -> None:
    """Name some of the runs along the axis, the last one among them, by day and candidate."""
    at = range(len(lines) - 1, -1, len(lines) // -_TICKS)
    axes.set_xticks(at, [f"{lines[each].date[5:10]}\n{lines[each].candidate[:6]}" for each in at], fontsize=8)
    axes.set_xlabel("run: day, candidate's SHA-256", fontsize=9)
