"""Run history: the last runs as a part of a report, as a page, and as lines for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markupsafe import Markup

from harness.checks.families import family_title
from harness.measures import Unit
from harness.report.illustrations import Illustration, figures_html
from harness.report.page import Section, folded, paragraphs, table, whole_page
from harness.run.history import LAST, failing_since

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.run.history import History, Line, Since
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
_UNFOLDED = 10
"""Failing checks that a page lists unfolded."""
_LISTED = 20
"""Failing checks that the terminal lists with the start of their failure."""


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
    from harness.report.text import aligned

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
    return body + folded(
        f"All {len(lines)} runs, the latest first", table(_TITLES, [_row(line) for line in reversed(lines)])
    )


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
    from harness.report import trends

    first, last = lines[0], lines[-1]
    yield Illustration(
        "Accuracy and failing checks",
        f"The last run of each of {len(lines)} candidates, the latest on the right.",
        f"Accuracy over {len(lines)} runs. First: {_spoken(first)}; last: {_spoken(last)}.",
        lambda: trends.accuracy_over_runs(lines),
    )
    if names := trends.families_of(lines):
        tightest = ", ".join(
            f"{family_title(name)} {last.margins[name]:+.1f}" for name in names if name in last.margins
        )
        yield Illustration(
            "Smallest margin of each behavior",
            "Blue passes, orange with a cross fails. Fading blue is a slow decline.",
            f"Distance from the threshold by behavior and run, in standard deviations. In the last run: {tightest}.",
            lambda: trends.margins_over_runs(lines),
            is_map=True,
        )


def _spoken(line: Line) -> str:
    return f"clean accuracy {_share(line.clean)}, {len(line.failing)} of {line.judged} checks fail"


def _share(value: float | None) -> str:
    return "–" if value is None else Unit.SHARE.format(value)
