"""Models side by side as rows of text: clean accuracy, accuracy under pose, robust accuracy, confident errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.measures import Unit
from harness.run.overview import Clean, Moved, Rate, RobustAccuracy

if TYPE_CHECKING:
    from harness.run.outcome import Outcome


def side_by_side(outcome: Outcome) -> list[list[str]]:
    """Return titles, one for each model, and a row for each metric that was measured; empty without an overview."""
    if (overview := outcome.overview) is None:
        return []
    known = overview.models
    rates: dict[str, list[Rate | None]] = {
        "clean accuracy": [model[Clean].accuracy for model in known],
        "accuracy at the corners of ±10°, ±2 px": [model[Moved].corners for model in known],
        "robust accuracy (225 poses)": [model[RobustAccuracy].robust_accuracy for model in known],
    }
    robust = rates["robust accuracy (225 poses)"]
    robust[0] = robust[0] or robust_accuracy_of(outcome)
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


def robust_accuracy_of(outcome: Outcome) -> Rate | None:
    """Return the robust accuracy that a check found for the candidate: the overview does not search again."""
    for verdict in outcome.verdicts:
        check = verdict.check
        asked = (verdict.metric, check.keys.get("grid"), check.role) == (
            "robust_accuracy",
            "augmentation-range",
            "candidate",
        )
        if asked and verdict.value is not None and verdict.interval is not None:
            return Rate(verdict.value, *verdict.interval, verdict.n)
    return None
