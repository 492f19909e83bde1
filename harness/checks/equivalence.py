"""First checks of the equivalence of an artifact to its original, with tolerances and their reasons."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.checks.first_checks import slugs
from harness.checks.tolerance import OF_A_PART, TOLERANCE

if TYPE_CHECKING:
    from harness.checks.first_checks import Row
    from harness.data import LabelledImages

EQUIVALENCE = "equivalence"
"""The family of these checks."""
_POSED, _CORRUPTED, _CONFIDENCE = 0.02, 0.05, 0.03
_CORRUPTIONS = ("gaussian-noise", "gaussian-blur", "contrast", "jpeg")
_SEVERITY = 3
REASON = "a healthy int8 conversion of the shipped model has upper bounds up to 0.89%"
OF_A_CLASS = "a healthy int8 conversion of the shipped model changes up to 2.8% of a class"
_AT_CORNERS = "a healthy int8 conversion of the shipped model changes 0.9% at the corners of the augmentation range"
_UNDER_CORRUPTION = "a healthy int8 conversion of the shipped model changes 1.9% under common corruptions"
_LOST = "no more correct predictions are lost than predictions may change"
_MEAN = "a healthy int8 conversion of the shipped model moves probabilities by 0.6% on average"


def equivalence_checks(images: LabelledImages) -> list[Row]:
    """Return first checks of predictions changed, correct predictions lost and confidence moved, with tolerances."""
    corruptions = [[name, _SEVERITY] for name in _CORRUPTIONS]
    rows: list[tuple[str, str, float | None, str, dict[str, object]]] = [
        ("clean", "predictions_changed", TOLERANCE, REASON, {}),
        ("class", "worst_class_predictions_changed", OF_A_PART, OF_A_CLASS, {}),
        ("corners", "pooled_predictions_changed", _POSED, _AT_CORNERS, {"under": ["corners"]}),
        ("corrupted", "pooled_predictions_changed", _CORRUPTED, _UNDER_CORRUPTION, {"damaged": corruptions}),
        ("lost", "correct_predictions_lost", TOLERANCE, _LOST, {}),
        ("lost-class", "worst_class_correct_predictions_lost", OF_A_PART, _LOST, {}),
        ("confidence", "confidence_moved", _CONFIDENCE, _MEAN, {}),
        ("confidence-p99", "confidence_moved_p99", None, "", {}),
        # No tolerance: a first checks file has no panel yet, and the verdict would be partial.
        ("consensus", "consensus_predictions_changed", None, "", {}),
        ("calibration", "calibration_error_change", None, "", {}),
    ]
    for column, slug in slugs(list(images.groups), kind="column").items():
        rows.append((slug, "worst_group_predictions_changed", OF_A_PART, OF_A_CLASS, {"by": column}))
    return [
        (f"{EQUIVALENCE}-{name}", metric, more | ({"tolerance": most, "reason": why} if most else {}))
        for name, metric, most, why, more in rows
    ]
