"""Many candidates ranked by their gate runs, with the rows that each wins: a page, and lines for the terminal."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from harness.checks.families import family_title
from harness.measures import Unit
from harness.report.history import margin_map
from harness.report.page import Illustration, Section, figures_html, folded, inputs, paragraphs, table, whole_page
from harness.report.tables import aligned
from harness.run.ranking import best_behaviors, families_of, wins

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from harness.run.ranking import Judged

_NAMED = 5
"""Rows won by a candidate that the terminal names."""
_TITLES = ("rank", "candidate", "verdict", "failing", "smallest margin", "wins", "best behaviors")


def ranking_rows(candidates: Sequence[Judged]) -> list[tuple[str, ...]]:
    """Return the ranking as rows of a table, its titles first."""
    counted, best = Counter(win.candidate for win in wins(candidates)), best_behaviors(candidates)
    rows: list[tuple[str, ...]] = [_TITLES]
    for rank, one in enumerate(candidates, start=1):
        name, away = one.tightest
        rows.append(
            (
                str(rank) if one.verdict != "error" else "–",
                one.name,
                one.verdict,
                f"{len(one.failing)} of {one.judged}",
                f"{name} {away:+.1f}" if name else "–",
                f"{counted[one.name]} rows",
                ", ".join(best.get(one.name, ())) or "–",
            )
        )
    return rows


def ranking_lines(candidates: Sequence[Judged]) -> list[str]:
    """Return the ranking as lines for the terminal, with the rows that each wins and the reasons of failed runs."""
    lines = aligned(ranking_rows(candidates), text=(0, 1, 2, 4, 5, 6))
    led = wins(candidates)
    for one in candidates:
        if one.remark:
            lines.append(one.remark)
        if mine := [win for win in led if win.candidate == one.name]:
            said = ", ".join(f"{win.row} by {win.lead:.1f}" for win in mine[:_NAMED])
            more = f" and {len(mine) - _NAMED} more" if len(mine) > _NAMED else ""
            lines.append(
                f"{one.name} wins {said}{more} (standard deviations of the reference models ahead of the next)"
            )
    return lines


def ranking_page(candidates: Sequence[Judged], facts: Mapping[str, str]) -> str:
    """Return a page that ranks the candidates, given the best first; `facts` has its inputs by title."""
    titles, *rows = ranking_rows(candidates)
    families = {name: str(row["family"]) for one in candidates for name, row in one.rows.items()}
    where = [(family_title(families[win.row]), win.row, win.candidate, f"{win.lead:.1f}") for win in wins(candidates)]
    heads = ("behavior", "row", "best candidate", "ahead of the next by, standard deviations of the reference models")
    measured = [(name, *(_cell(one.rows.get(name)) for one in candidates)) for name in families]
    every_row = table(("row", *(one.name for one in candidates)), measured, numbers=True)
    sections = [
        Section("ranking", "Candidates, best first", table(titles, rows)),
        Section("margins", "Smallest margins", figures_html(_illustrations(candidates))),
        Section("wins", "Wins", table(heads, where) if where else "No candidate is clearly ahead anywhere."),
        Section("rows", "All rows", folded(f"Measurements: {len(measured)} rows", every_row)),
        inputs(facts.items()),
    ]
    lead = paragraphs(*(one.remark for one in candidates))
    return whole_page(f"{len(candidates)} candidates by the gate", lead, sections)


def _illustrations(candidates: Sequence[Judged]) -> Iterator[Illustration]:
    judged = [one for one in candidates if one.verdict != "error"]
    if judged and families_of(candidates):
        best = "; ".join(f"{name}: {', '.join(own)}" for name, own in best_behaviors(candidates).items())
        yield Illustration(
            "Smallest margin of each behavior",
            "Blue passes, orange with a cross fails. The candidates stand in the order of their ranks.",
            f"Distance from the threshold by behavior and candidate. Clearly the best: {best or 'none'}.",
            lambda: margin_map([one.name for one in judged], [one.margins for one in judged]),
            is_map=True,
        )


def _cell(row: Mapping[str, Any] | None) -> str:
    if row is None or row["value"] is None:
        return "–"
    return f"{'✗ ' if row['status'] == 'fail' else ''}{Unit(row['unit']).format(row['value'])}"
