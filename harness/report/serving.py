"""The cost of another serving pipeline as a part of the page: each skew, the greatest loss first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.checks.skew import SKEW
from harness.measures.serving import SERVED_CORRECT_PREDICTIONS_LOST, SERVED_PREDICTIONS_CHANGED
from harness.report.page import Section, render, table
from harness.report.tables import SIGNS
from harness.report.wording import measured_and_required, reference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.checks import Verdict
    from harness.run.outcome import Outcome

_TITLES = ("served with", "metric", "result", "measured", "threshold", "reference models", "")
_MOST = 5
"""Skews that a summary names."""
_METRICS = {
    SERVED_CORRECT_PREDICTIONS_LOST.name: "correct predictions lost",
    SERVED_PREDICTIONS_CHANGED.name: "predictions changed",
}


def serving(outcome: Outcome) -> Section | None:
    """Return each skew with what it loses and changes, the greatest loss first; None without such rows."""
    verdicts = _of_family(outcome)
    if not verdicts:
        return None
    ordered = greatest_loss_first(verdicts)
    worst = ordered[0]
    lines = [
        f"The reference pipeline: {outcome.data.get('pipeline', 'unknown')}.",
        f"{worst.detail[:1].upper()}{worst.detail[1:]}." if worst.detail else "",
    ]
    rows = table(_TITLES, [_row(verdict) for verdict in ordered])
    return Section("serving", "Served through another pipeline", render("lead", lines=filter(None, lines), hints=rows))


def losses_by_serving(outcome: Outcome) -> list[str]:
    """Return the skews that lose the most, greatest loss first, as lines of text; none where nothing is lost."""
    measured = [one for one in _of_family(outcome) if one.metric == SERVED_CORRECT_PREDICTIONS_LOST.name]
    return [one.detail for one in greatest_loss_first(measured)[:_MOST] if (one.value or 0) > 0]


def _of_family(outcome: Outcome) -> list[Verdict]:
    return [one for one in outcome.verdicts if one.check.family == SKEW and one.value is not None]


def greatest_loss_first(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Return verdicts of skews by the loss of their skew, then by the share that changes, each skew's together."""
    losses: dict[object, float] = {}
    changes: dict[object, float] = {}
    for verdict in verdicts:
        of = losses if verdict.metric == SERVED_CORRECT_PREDICTIONS_LOST.name else changes
        of[verdict.check.keys.get("skew")] = verdict.value or 0.0

    def place(verdict: Verdict) -> tuple[float, float, str, str]:
        skew = verdict.check.keys.get("skew")
        # Without a measured loss, no more than what changes can be lost.
        changed = changes.get(skew, 0.0)
        return -losses.get(skew, changed), -changed, str(skew), verdict.metric

    return sorted(verdicts, key=place)


def _row(verdict: Verdict) -> tuple[object, ...]:
    measured, required = measured_and_required(verdict)
    why = verdict.check.informational if verdict.status == "informational" else ""
    said = "; ".join(filter(None, (verdict.detail, why)))
    skew = verdict.check.keys.get("skew")
    return skew, _METRICS[verdict.metric], SIGNS[verdict.status], measured, required, reference(verdict), said
