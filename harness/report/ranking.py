"""Many candidates ranked by what the gate said of each, and where each wins: a page, and lines for the terminal."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.errors import some_of
from harness.gates.families import family_title
from harness.measures import Unit
from harness.report.illustrations import Illustration, figure_html
from harness.report.page import Section, render, table
from harness.run.history import FARTHEST
from harness.run.outcome import spread

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from markupsafe import Markup

_LED = 1.0
"""Standard deviations of healthy retrains by which the best of a row must be ahead of the next, to win it."""
_NAMED = 5
"""Rows that a candidate wins which are named."""
_ORDER = ("pass", "partial", "fail", "error")
"""Verdicts, the best first."""
_TITLES = ("rank", "candidate", "verdict", "failing", "tightest gate", "wins", "best behaviours")


@dataclass(frozen=True)
class Judged:
    """What the gate said of one candidate, by its `stress.json`; `rows` are its entries there, by id.

    `failed_tests` names the tests without a gate that failed.
    """

    name: str
    path: str
    sha256: str
    verdict: str
    rows: Mapping[str, Mapping[str, Any]]
    error: str = ""
    failed_tests: tuple[str, ...] = ()

    @staticmethod
    def of(name: str, path: str, report: Mapping[str, Any]) -> Judged:
        """Return what a report, the content of `stress.json`, says of its candidate."""
        rows = {row["id"]: row for row in report["gates"] if row["role"] == "candidate"}
        error = next(iter(report["errors"]), "") if report["verdict"] == "error" else ""
        sha256 = (report["candidate"] or {}).get("sha256", "")
        return Judged(name, path, sha256, report["verdict"], rows, error, tuple(report["failed_tests"]))

    @property
    def failing(self) -> list[str]:
        """Return the ids of the gates that fail."""
        return [name for name, row in self.rows.items() if row["status"] == "fail"]

    @property
    def remark(self) -> str:
        """Return why it was not judged, or what failed besides its gates; empty where there is no such thing."""
        if self.error:
            return f"{self.name} was not judged: {self.error}"
        return f"{self.name} fails tests without a gate: {some_of(self.failed_tests)}" if self.failed_tests else ""

    @property
    def judged(self) -> int:
        """Return how many gates were judged."""
        return sum(row["status"] in {"pass", "fail"} for row in self.rows.values())

    @property
    def margins(self) -> dict[str, float]:
        """Return by family how far the gate nearest to its bound is from it, see `harness.run.history.margin`."""
        found: dict[str, float] = {}
        for row in self.rows.values():
            if row["status"] in {"pass", "fail"} and row["value"] is not None:
                away = _score(row, row["value"]) - _score(row, row["bound"])
                away = max(away, 0.0) if row["status"] == "pass" else min(away, 0.0)
                found[row["family"]] = min(away, found.get(row["family"], FARTHEST))
        return {name: max(value, -FARTHEST) for name, value in found.items()}

    @property
    def tightest(self) -> tuple[str, float]:
        """Return the family whose nearest gate is the nearest of all to its bound, or the farthest beyond it."""
        return min(self.margins.items(), key=lambda each: each[1], default=("", -math.inf))


@dataclass(frozen=True)
class Win:
    """A row whose best candidate is ahead of the next by `lead` standard deviations of healthy retrains."""

    row: str
    candidate: str
    lead: float


def ranked(candidates: Sequence[Judged]) -> list[Judged]:
    """Return the candidates, the best first: by the verdict, by how many gates and tests fail, by the tightest gate."""

    def badness(one: Judged) -> tuple[int, int, float, str]:
        return _ORDER.index(one.verdict), len(one.failing) + len(one.failed_tests), -one.tightest[1], one.name

    return sorted(candidates, key=badness)


def wins(candidates: Sequence[Judged]) -> list[Win]:
    """Return the rows that one candidate wins, plainly ahead of all others, the greatest lead first.

    Rows count that were measured on all that were judged, and of which a bound, or what healthy retrains reach, is
    known: in their spread leads are told, see `harness.run.outcome.spread`.
    """
    judged = [one for one in candidates if one.verdict != "error"]
    found = []
    for name in judged[0].rows if len(judged) > 1 else ():
        rows = [one.rows.get(name) for one in judged]
        known = [row for row in rows if row and row["value"] is not None]
        if len(known) < len(judged) or (known[0]["healthy_std"] is None and known[0]["bound"] is None):
            continue
        scores = sorted(((_score(row, row["value"]), at) for at, row in enumerate(known)), reverse=True)
        lead = min(scores[0][0] - scores[1][0], FARTHEST)
        if lead >= _LED:
            found.append(Win(name, judged[scores[0][1]].name, lead))
    return sorted(found, key=lambda win: (-win.lead, win.row))


def _score(row: Mapping[str, Any], value: float) -> float:
    """Return a value in the spread of its row, more being better."""
    bound = row["bound"] if row["bound"] is not None else row["healthy_mean"] or 0.0
    return (-1 if row["direction"] == "at_most" else 1) * value / spread(bound, row["healthy_std"])


def best_behaviours(candidates: Sequence[Judged]) -> dict[str, list[str]]:
    """Return by candidate the families in which it is the farthest on the good side, and ahead of the next."""
    judged = [one for one in candidates if one.verdict != "error"]
    best: dict[str, list[str]] = {}
    for name in _families(candidates):
        scores = sorted(((one.margins.get(name, -math.inf), one.name) for one in judged), reverse=True)
        if len(scores) > 1 and scores[0][0] - scores[1][0] >= _LED:
            best.setdefault(scores[0][1], []).append(name)
    return best


def _families(candidates: Sequence[Judged]) -> list[str]:
    return list(dict.fromkeys(name for one in candidates for name in one.margins))


def ranking_rows(candidates: Sequence[Judged]) -> list[tuple[str, ...]]:
    """Return the ranking as rows of a table, its titles first."""
    counted, best = Counter(win.candidate for win in wins(candidates)), best_behaviours(candidates)
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
    """Return the ranking as lines for the terminal, with where each wins, and why some were not judged."""
    from harness.report.text import aligned

    lines = aligned(ranking_rows(candidates), text=(0, 1, 2, 4, 5, 6))
    led = wins(candidates)
    for one in candidates:
        if one.remark:
            lines.append(one.remark)
        if mine := [win for win in led if win.candidate == one.name]:
            said = ", ".join(f"{win.row} by {win.lead:.1f}" for win in mine[:_NAMED])
            more = f" and {len(mine) - _NAMED} more" if len(mine) > _NAMED else ""
            lines.append(f"{one.name} wins {said}{more} (healthy standard deviations ahead of the next)")
    return lines


def ranking_page(candidates: Sequence[Judged], facts: Mapping[str, str]) -> str:
    """Return a page that ranks the candidates, given the best first; `facts` says how it was made, by title."""
    titles, *rows = ranking_rows(candidates)
    led = wins(candidates)
    where = [(family_title(_family_of(win, candidates)), win.row, win.candidate, f"{win.lead:.1f}") for win in led]
    heads = ("behaviour", "row", "best candidate", "ahead of the next by, healthy standard deviations")
    sections = [
        Section("ranking", "The candidates, the best first", table(titles, rows)),
        Section("margins", "How far each behaviour is from its bound", _figures(candidates)),
        Section("wins", "Where each wins", table(heads, where) if where else "No candidate is plainly ahead anywhere."),
        Section("rows", "Every row", _every_row(candidates)),
        Section("covered", "What was compared", render("facts", facts=facts.items())),
    ]
    lead = render("lead", lines=[one.remark for one in candidates if one.remark], hints="")
    title = f"{len(candidates)} candidates by the gate"
    return str(render("whole", title=title, banner="", lead=lead, sections=sections))


def _family_of(win: Win, candidates: Sequence[Judged]) -> str:
    return next(str(one.rows[win.row]["family"]) for one in candidates if one.name == win.candidate)


def _figures(candidates: Sequence[Judged]) -> Markup:
    return render("ranking", figures=[figure_html(each) for each in _illustrations(candidates)], rows="")


def _illustrations(candidates: Sequence[Judged]) -> Iterator[Illustration]:
    from harness.report import trends

    judged, names = [one for one in candidates if one.verdict != "error"], _families(candidates)
    if not (judged and names):
        return
    best = "; ".join(f"{name}: {', '.join(own)}" for name, own in best_behaviours(candidates).items())
    yield Illustration(
        "The nearest gate of each behaviour",
        "Blue holds, orange with a cross fails; the candidates from left to right as they are ranked.",
        f"Distance from the bound by behaviour and candidate. Plainly the best: {best or 'none'}.",
        lambda: trends.margins_of_models([one.name for one in judged], [one.margins for one in judged], names),
        is_map=True,
    )


def _every_row(candidates: Sequence[Judged]) -> Markup:
    names = list(dict.fromkeys(name for one in candidates for name in one.rows))
    rows = [(name, *(_cell(one.rows.get(name)) for one in candidates)) for name in names]
    titles = ("row", *(one.name for one in candidates))
    return render("ranking", figures=[], rows=table(titles, rows, numbers=True), count=len(names))


def _cell(row: Mapping[str, Any] | None) -> str:
    if row is None or row["value"] is None:
        return "–"
    return f"{'✗ ' if row['status'] == 'fail' else ''}{Unit(row['unit']).format(row['value'])}"
