"""First checks of the equivalence of an artifact to its original, with tolerances and their reasons."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.base.errors import InputError
from harness.checks.starter_check import in_toml, slugs

if TYPE_CHECKING:
    from harness.checks.first_checks import Row
    from harness.data import LabelledImages

EQUIVALENCE = "equivalence"
"""The family of these checks."""
TOLERANCE, OF_A_PART = 0.01, 0.05
"""Share of all images that may change, and of the images of the worst class or group."""
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
    corruptions = in_toml([[name, _SEVERITY] for name in _CORRUPTIONS])
    return [
        _check("clean", "predictions_changed", TOLERANCE, REASON),
        _check("class", "worst_class_predictions_changed", OF_A_PART, OF_A_CLASS),
        _check("corners", "pooled_predictions_changed", _POSED, _AT_CORNERS, 'under = ["corners"]'),
        _check("corrupted", "pooled_predictions_changed", _CORRUPTED, _UNDER_CORRUPTION, f"damaged = {corruptions}"),
        _check("lost", "correct_predictions_lost", TOLERANCE, _LOST),
        _check("lost-class", "worst_class_correct_predictions_lost", OF_A_PART, _LOST),
        _check("confidence", "confidence_moved", _CONFIDENCE, _MEAN),
        (f"{EQUIVALENCE}-confidence-p99", "confidence_moved_p99"),
        # No tolerance: a first checks file has no panel yet, and the verdict would be partial.
        (f"{EQUIVALENCE}-consensus", "consensus_predictions_changed"),
        (f"{EQUIVALENCE}-calibration", "calibration_error_change"),
        *(
            _check(slug, "worst_group_predictions_changed", OF_A_PART, OF_A_CLASS, f"by = {in_toml(column)}")
            for column, slug in slugs(list(images.groups), kind="column").items()
        ),
    ]


def expect_tolerance(tolerance: float) -> None:
    """Raise `InputError` for a tolerance that is no share in (0, 1)."""
    if not 0 < tolerance < 1:
        raise InputError(f"expected a share above 0% and below 100%, found {tolerance:.4%}", setting="tolerance")


def _check(name: str, metric: str, tolerance: float, reason: str, *more: str) -> Row:
    return (f"{EQUIVALENCE}-{name}", metric, *more, f"tolerance = {tolerance}", f"reason = {in_toml(reason)}")
