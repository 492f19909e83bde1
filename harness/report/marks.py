"""Marks on what is worse than in the model that it is held against: plainly so, or so that chance may explain it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from harness.measures.statistics import Z95
from harness.report.page import render
from harness.report.wording import looks_less

if TYPE_CHECKING:
    from markupsafe import Markup

    from harness.run.overview import OnObject, Rate

PLAINLY, PERHAPS = "▼", "▽"
LEGEND = f"{PLAINLY} plainly worse, {PERHAPS} worse, which chance may explain."


def of_rates(mine: Rate, theirs: Rate) -> str:
    """Return the mark of a share of which more is better: plainly worse where the intervals are apart."""
    if mine.value >= theirs.value:
        return ""
    return PLAINLY if mine.high < theirs.low else PERHAPS


def of_counts(mine: float, theirs: float) -> str:
    """Return the mark of a count of which fewer is better.

    Plainly worse is what differs by more than 1.96 standard deviations of the difference of two Poisson counts, whose
    variance is estimated by their sum.
    """
    if mine <= theirs:
        return ""
    return PLAINLY if mine - theirs > Z95 * math.sqrt(mine + theirs) else PERHAPS


def of_looks(mine: OnObject | None, theirs: OnObject | None) -> str:
    """Return the mark of attention on the object: plainly worse is what is worth a hint."""
    if mine is None or theirs is None or mine.lift >= theirs.lift:
        return ""
    return PLAINLY if looks_less(mine, theirs) else PERHAPS


def marked(text: object, mark: str) -> Markup | object:
    """Return a cell's text under a mark, as an element; the text alone where there is no mark."""
    return render("marked", mark=mark, text=text, plainly=mark == PLAINLY) if mark else text
