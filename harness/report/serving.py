"""The cost of another serving pipeline as a part of the page: each skew, the greatest loss first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.checks.families import SKEW
from harness.measures.serving import SERVED_CORRECT_PREDICTIONS_LOST, SERVED_PREDICTIONS_CHANGED
from harness.report.page import Section, folded, render, table
from harness.report.tables import SIGNS
from harness.report.wording import measured_and_required, reference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.checks import Verdict
    from harness.run.outcome import Outcome

_TITLES = ("served with", "correct predictions lost", "predictions changed", "reference models", "what changes")
_REFERENCE = _TITLES.index("reference models")
_MOST = 5
"""Skews that a summary names."""


def serving(outcome: Outcome) -> Section | None:
    """Return each skew with what it loses and changes, the greatest loss first; None without such rows."""
    verdicts = _of_family(outcome)
    if not verdicts:
        return None
    ordered = greatest_loss_first(verdicts)
    worst = ordered[0]
    worst_case = f"The costliest of the pipelines below: {worst.detail}." if worst.detail else ""
    lines = [f"The reference pipeline: {outcome.data.get('pipeline', 'unknown')}.", worst_case]
    skews = list(dict.fromkeys(_skew(one) for one in ordered))
    rows = [_row(str(skew), [one for one in ordered if _skew(one) == skew]) for skew in skews]
    columns = [at for at in range(len(_TITLES)) if at != _REFERENCE or any(row[at] for row in rows)]
    shown = table([_TITLES[at] for at in columns], [[row[at] for at in columns] for row in rows])
    failing = sum(one.status == "fail" for one in verdicts)
    number = "1 pipeline" if len(skews) == 1 else f"{len(skews)} pipelines"
    said = f"{number}, {failing} of {len(verdicts)} checks fail" if failing else f"{number}, and no check of them fails"
    hints = folded(said, shown, opened=bool(failing))
    return Section("serving", "Served through another pipeline", render("lead", lines=filter(None, lines), hints=hints))


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
        of[_skew(verdict)] = verdict.value or 0.0

    def place(verdict: Verdict) -> tuple[float, float, str, str]:
        skew = _skew(verdict)
        # Without a measured loss, no more than what changes can be lost.
        changed = changes.get(skew, 0.0)
        return -losses.get(skew, changed), -changed, str(skew), verdict.metric

    return sorted(verdicts, key=place)


def _row(skew: str, verdicts: Sequence[Verdict]) -> tuple[object, ...]:
    of = {verdict.metric: verdict for verdict in verdicts}
    lost, changed = of.get(SERVED_CORRECT_PREDICTIONS_LOST.name), of.get(SERVED_PREDICTIONS_CHANGED.name)
    reached = ", ".join(filter(None, map(reference, filter(None, (lost, changed)))))
    return skew, _cell(lost), _cell(changed), reached, verdicts[0].detail


def _cell(verdict: Verdict | None) -> str:
    if verdict is None:
        return ""
    measured, required = measured_and_required(verdict)
    return f"{measured}, {required}: {SIGNS[verdict.status]}" if required else f"{measured}: {SIGNS[verdict.status]}"


def _skew(verdict: Verdict) -> object:
    return verdict.check.keys.get("skew")
