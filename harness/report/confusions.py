"""From a confusion to its images: a table of counts whose cells choose among small pictures of the mistakes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.report.gallery import Face, sheet
from harness.report.page import Section, render
from harness.run.overview import Clean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.run.outcome import Outcome
    from harness.run.overview import Mistake

_CLASSES = 20
"""A table has so many classes at most; of more, the most frequent confusions are listed."""
_LISTED = 30
_FULL = 0.15
"""Share of a true class at which the color of a confusion is full."""


def confusions(outcome: Outcome) -> Section | None:
    """Return the candidate's confusions on clean images, each with pictures; None without mistakes."""
    overview = outcome.overview
    if overview is None or not overview.mistakes:
        return None
    counts, names = overview.models[0][Clean].confusion, overview.classes
    shown = {(each.true, each.predicted) for each in overview.mistakes}
    cells = [
        [_cell(line, at, row=row, pictured=(names[row], name) in shown) for at, name in enumerate(names)]
        for row, line in enumerate(counts)
    ]
    pairs = [
        (cell, f"{names[row]} → {names[column]}")
        for row, line in enumerate(cells)
        for column, cell in enumerate(line)
        if cell["key"]
    ]
    wrong = sum(sum(row) - row[at] for at, row in enumerate(counts))
    few = "" if len(overview.mistakes) == wrong else f" Pictures show {len(overview.mistakes):,} of them."
    body = render(
        "confusions",
        lead=f"{wrong:,} of {overview.n:,} clean images are predicted wrong.{few}",
        classes=list(enumerate(names)),
        cells=cells if len(names) <= _CLASSES else [],
        listed=sorted(pairs, key=lambda pair: -pair[0]["count"])[:_LISTED],
        gallery=sheet("", [_face(each, names, outcome) for each in overview.mistakes]),
        sure=any(each.confidence is not None for each in overview.mistakes),
    )
    return Section("confusions", "Confusions and their images", body)


def _cell(counts: Sequence[int], column: int, *, row: int, pictured: bool) -> dict[str, Any]:
    """Return a cell of the table: its count, the key that its images carry, and the strength of its color."""
    count, total = counts[column], sum(counts)
    share = count / total if total and column != row else 0.0
    return {
        "count": count,
        "right": column == row,
        "key": f"{row}-{column}" if pictured else "",
        "strength": round(100 * min(share / _FULL, 1.0)),
    }


def _face(mistake: Mistake, names: Sequence[str], outcome: Outcome) -> Face:
    image, known = f"image {mistake.index}", mistake.reference
    sure = "" if mistake.confidence is None else f"{mistake.confidence:.0%}"
    beside = ""
    if known is not None:
        beside = f"reference models: {known.predicted} {known.confidence:.0%}, {known.wrong} of {known.models} wrong"
    words = f"{image}: {mistake.true} predicted as {mistake.predicted} {sure}".strip()
    return Face(
        outcome.thumbnails.get(mistake.index),
        mistake.true,
        f"{mistake.predicted} {sure}".strip(),
        image,
        "; ".join(filter(None, (words, beside))),
        beside=beside,
        known=outcome.known_text(image),
        key=f"{names.index(mistake.true)}-{names.index(mistake.predicted)}",
        sure=100 if mistake.confidence is None else round(100 * mistake.confidence),
    )
