"""Models side by side as rows of text: clean accuracy, accuracy under pose, robust accuracy, confident errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.checks.roles import INCUMBENT
from harness.measures import Unit
from harness.measures.statistics import proportion_interval
from harness.run.outcome import robust_verdict
from harness.run.overview import Clean, Moved, Rate, RobustAccuracy

if TYPE_CHECKING:
    from harness.run.history import Line
    from harness.run.outcome import Outcome


def side_by_side(outcome: Outcome) -> list[list[str]]:
    """Return titles, one for each model, and a row for each metric that was measured; empty without an overview."""
    if (overview := outcome.overview) is None:
        return []
    known, robust = overview.models, robust_accuracies(outcome)
    rates: dict[str, list[Rate | None]] = {
        "clean accuracy": [model[Clean].accuracy for model in known],
        "accuracy at the corners of ±10°, ±2 px": [model[Moved].corners for model in known],
        "robust accuracy (225 poses)": [
            next((robust[role] for role in model.roles if role in robust), model[RobustAccuracy].robust_accuracy)
            for model in known
        ],
    }
    rows = [["", *(" = ".join(model.roles) for model in known)]]
    rows += [
        [title, *("–" if rate is None else f"{Unit.SHARE.format(rate.value)} (n={rate.n:,})" for rate in found)]
        for title, found in rates.items()
        if any(found)
    ]
    sure = [model[Clean].confident_errors for model in known]
    if any(count is not None for count in sure):
        rows.append(["errors above 90% confidence", *("–" if count is None else f"{count:,}" for count in sure)])
    return rows


def robust_accuracies(outcome: Outcome) -> dict[str, Rate]:
    """Return robust accuracy on the images of its check, by role: of the candidate, and of the incumbent's own run."""
    mine = robust_accuracy_of(outcome)
    if mine is None:
        return {}
    own = line_of_incumbent(outcome)
    if own is None or own.robust_accuracy is None:
        return {"candidate": mine}
    share = own.robust_accuracy
    return {"candidate": mine, INCUMBENT: Rate(share, *proportion_interval(round(share * mine.n), mine.n), mine.n)}


def line_of_incumbent(outcome: Outcome) -> Line | None:
    """Return the latest run of the incumbent, another model, with the same checks on the same data; None for none."""
    incumbent, candidate = outcome.models.get(INCUMBENT), outcome.models.get("candidate")
    if not (outcome.history and incumbent and candidate) or incumbent["sha256"] == candidate["sha256"]:
        return None
    asked = incumbent["sha256"], outcome.checks_sha256, str(outcome.data["sha256"]), outcome.profile
    same = [line for line in outcome.history.lines if (line.candidate, line.checks, line.data, line.profile) == asked]
    return same[-1] if same else None


def robust_accuracy_of(outcome: Outcome) -> Rate | None:
    """Return the robust accuracy that a check found for the candidate: the overview does not search again."""
    found = robust_verdict(outcome)
    if found is None or found.value is None or found.interval is None:
        return None
    return Rate(found.value, *found.interval, found.n)
