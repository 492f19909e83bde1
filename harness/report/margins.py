"""The smallest margin of each family, in standard deviations of the reference models, as a figure of the page."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from harness.checks.families import family_title
from harness.measures import Unit
from harness.report.closest import known_margins
from harness.report.page import Section, render
from harness.report.tables import line_of_incumbent
from harness.report.wording import explained
from harness.run.history import FARTHEST
from harness.run.outcome import spread

if TYPE_CHECKING:
    from harness.checks import Verdict
    from harness.run.outcome import Outcome

_LEFT, _RIGHT = -10.0, 10.0
"""Ends of the scale, in standard deviations; a margin beyond an end stands there, with its number."""
_FEWEST = 2
"""Families of a figure, at least."""


class _Row(NamedTuple):
    """The smallest margin of a family: `margin` that of the candidate, `incumbent` that of the incumbent, if known.

    `low` and `high` are where the reference models lie, mean ± 2 standard deviations.
    """

    verdict: Verdict
    margin: float
    low: float
    high: float
    incumbent: float | None


def margins(outcome: Outcome) -> Section | None:
    """Return the smallest margin of each family whose reference models are known; None with fewer than two families."""
    rows = _rows(outcome)
    if len(rows) < _FEWEST:
        return None
    shown = [
        {
            "family": family_title(row.verdict.check.family),
            "about": explained(row.verdict.check.family),
            "id": row.verdict.check.id,
            "fails": not row.verdict.passed,
            "margin": _written(row.margin),
            "at": _place(row.margin),
            "beyond": not _LEFT <= row.margin <= _RIGHT,
            "band": (_place(row.low), _place(row.high) - _place(row.low)),
            "incumbent": None if row.incumbent is None else _written(row.incumbent),
            "incumbent_at": None if row.incumbent is None else _place(row.incumbent),
        }
        for row in rows
    ]
    compared = any(row.incumbent is not None for row in rows)
    body = render("margins", rows=shown, zero=_place(0.0), compared=compared)
    return Section("margins", "Smallest margin of each behavior", body)


def _rows(outcome: Outcome) -> list[_Row]:
    """Return a row for each family, the smallest margin first."""
    smallest: dict[str, _Row] = {}
    own = line_of_incumbent(outcome)
    theirs = own.margins if own else {}
    for away, verdict in known_margins(outcome.verdicts):
        known, family = verdict.check.reference, verdict.check.family
        if known is None or known.mean is None or verdict.threshold is None:
            continue
        if family in smallest and smallest[family].margin <= away:
            continue
        sign = -1 if verdict.check.direction == "at_most" else 1
        center = sign * (known.mean * _share(verdict) - verdict.threshold) / spread(verdict.threshold, known.std)
        smallest[family] = _Row(verdict, away, center - 2, center + 2, theirs.get(family))
    return sorted(smallest.values(), key=lambda row: row.margin)


def _share(verdict: Verdict) -> float:
    """Return by what a count of the reference models is scaled, as its threshold is; 1 for other values."""
    binding = verdict.check.binding
    if verdict.unit is not Unit.IMAGES or binding is None:
        return 1.0
    return verdict.n / binding.n if binding.n else verdict.check.share


def _written(value: float) -> str:
    """Return a margin as the page has it; those at the limit of a margin are that or more."""
    written = f"{value:+.1f}" if abs(value) < FARTHEST else f"{'<' if value < 0 else '>'} {value:+.0f}"
    return written.replace("-", "−")


def _place(value: float) -> float:
    """Return where a margin stands on the scale, in percent of its width."""
    return round(100 * (min(max(value, _LEFT), _RIGHT) - _LEFT) / (_RIGHT - _LEFT), 1)
