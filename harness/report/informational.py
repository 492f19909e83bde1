"""Informational measurements: the weakest in a sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markupsafe import Markup

from harness.checks.families import family_title
from harness.measures.accuracy import ACCURACY
from harness.measures.worst_poses import RANDOM_POSE_ACCURACY, ROBUST_ACCURACY, WORST_OF_TEN
from harness.report.corruption_map import corruption_map
from harness.report.page import render
from harness.report.wording import case, measured_and_required, reference

if TYPE_CHECKING:
    from harness.checks import Verdict
    from harness.run.outcome import Outcome

_WEAKEST = 4
"""Measurements that are named below the headline, one of each behavior or kind of corruption."""
_RIGHT = {metric.name for metric in (ACCURACY, RANDOM_POSE_ACCURACY, ROBUST_ACCURACY, WORST_OF_TEN)}
"""Metrics that are shares of correct predictions, which compare with each other."""


def informational_note(outcome: Outcome) -> Markup:
    """Return the lowest informational accuracies with those of reference models, folded; empty without any."""
    unjudged = [verdict for verdict in outcome.verdicts if verdict.status == "informational"]
    weakest: dict[str, Verdict] = {}
    for verdict in sorted((each for each in unjudged if _is_right(each)), key=lambda each: each.value or 0.0):
        weakest.setdefault(f"{verdict.check.family} {verdict.check.keys.get('corruption', '')}", verdict)
    shown = [
        {
            "id": verdict.check.id,
            "case": _named(verdict),
            "measured": measured_and_required(verdict)[0],
            "usual": reference(verdict),
        }
        for verdict in list(weakest.values())[:_WEAKEST]
    ]
    if not shown:
        return Markup()
    return render("informational", counts=outcome.counts, shown=shown, mapped=corruption_map(outcome) is not None)


def _is_right(verdict: Verdict) -> bool:
    return verdict.check.role == "candidate" and verdict.metric in _RIGHT and verdict.value is not None


def _named(verdict: Verdict) -> str:
    keys = verdict.check.keys
    if keys.get("corruption") and keys.get("severity"):
        return f"{str(keys['corruption']).replace('-', ' ')}, severity {keys['severity']} of 5"
    return f"{family_title(verdict.check.family)}, {case(verdict)}"
