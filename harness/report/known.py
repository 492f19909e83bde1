"""What leads the page of a model that fails: images that every healthy model gets right and this one does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.measures.panel.consensus import LOST_CONSENSUS
from harness.report.page import Section, render
from harness.report.wording import healthy
from harness.run.outcome import worst_first

if TYPE_CHECKING:
    from harness.run.outcome import Outcome

_SHOWN = 2
"""Pictures, so that what got worse is not far below."""


def known_to_all(outcome: Outcome) -> Section | None:
    """Return the most telling pictures, with the mean answer of healthy models; None of a model that does not fail.

    They are those of the row on images that every healthy model gets right which misses its bound by most, or else of
    the first such row.
    """
    rows = [one for one in worst_first(outcome.verdicts) if one.metric == LOST_CONSENSUS.name and one.value]
    shown = next((one for one in rows if one.gate.id in outcome.telling), None)
    if shown is None or not outcome.failed:
        return None
    assert shown.value is not None
    usual = f"; retrained reference models lose {said}" if (said := healthy(shown)) else ""
    body = render(
        "known",
        lead=f"{shown.value:,.0f} such images{usual}. {shown.detail[:1].upper()}{shown.detail[1:]}.",
        pictures=outcome.telling[shown.gate.id][:_SHOWN],
        id=shown.gate.id,
    )
    return Section("known", "Every retrained reference model gets these right, this one does not", body)
