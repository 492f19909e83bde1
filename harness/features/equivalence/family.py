"""The family `equivalence`: its first checks with tolerances, and the self-check of a run.

Each tolerance has a reason.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from harness.base.errors import NotApplicableError
from harness.checks.first_checks import slugs
from harness.checks.tolerance import EQUIVALENCE, OF_A_PART, TOLERANCE
from harness.inference import Predictions, standins
from harness.measures.changed_predictions import PREDICTIONS_CHANGED
from harness.run.mutants import Finding, with_candidate

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.checks.first_checks import Row, StarterData
    from harness.data import LabelledImages
    from harness.inference import Classifier, RoleModel
    from harness.perturb import Perturbation
    from harness.run.mutants import Judge
    from harness.run.session import StressSession

_POSED, _CORRUPTED, _CONFIDENCE = 0.02, 0.05, 0.03
_CORRUPTIONS = ("gaussian-noise", "gaussian-blur", "contrast", "jpeg")
_SEVERITY = 3
REASON = "a healthy int8 conversion of the shipped model has upper bounds up to 0.89%"
OF_A_CLASS = "a healthy int8 conversion of the shipped model changes up to 2.8% of a class"
_AT_CORNERS = (
    "a healthy int8 conversion of the shipped model changes 0.9% at the corners of the "
    "augmentation range"
)
_UNDER_CORRUPTION = (
    "a healthy int8 conversion of the shipped model changes 1.9% under common corruptions"
)
_LOST = "no more correct predictions are lost than predictions may change"
_MEAN = "a healthy int8 conversion of the shipped model moves probabilities by 0.6% on average"


_Row = tuple[str, str, float | None, str, dict[str, object]]
"""The end of a check's id, its metric, its tolerance with the reason, and further entries."""


def starter_checks(about: StarterData) -> list[Row]:
    """Return first checks, with tolerances, of the predictions of an artifact.

    They are predictions changed, correct predictions lost and confidence moved.
    """
    corruptions = [[name, _SEVERITY] for name in _CORRUPTIONS]
    corners: _Row = (
        "corners",
        "pooled_predictions_changed",
        _POSED,
        _AT_CORNERS,
        {"under": ["corners"]},
    )
    rows: list[_Row] = [
        ("clean", "predictions_changed", TOLERANCE, REASON, {}),
        ("class", "worst_class_predictions_changed", OF_A_PART, OF_A_CLASS, {}),
        *([corners] if about.augmentation.moves else []),
        (
            "corrupted",
            "pooled_predictions_changed",
            _CORRUPTED,
            _UNDER_CORRUPTION,
            {"damaged": corruptions},
        ),
        ("lost", "correct_predictions_lost", TOLERANCE, _LOST, {}),
        ("lost-class", "worst_class_correct_predictions_lost", OF_A_PART, _LOST, {}),
        ("confidence", "confidence_moved", _CONFIDENCE, _MEAN, {}),
        ("confidence-p99", "confidence_moved_p99", None, "", {}),
        # No tolerance: a first checks file has no panel yet, and the verdict would be partial.
        ("consensus", "consensus_predictions_changed", None, "", {}),
        ("calibration", "calibration_error_change", None, "", {}),
    ]
    for column, slug in slugs(list(about.images.groups), kind="column").items():
        rows.append(
            (slug, "worst_group_predictions_changed", OF_A_PART, OF_A_CLASS, {"by": column})
        )
    return [
        (
            f"{EQUIVALENCE}-{name}",
            metric,
            more | ({"tolerance": most, "reason": why} if most else {}),
        )
        for name, metric, most, why, more in rows
    ]


def changes_are_noticed(session: StressSession, judge: Judge) -> Callable[[], Finding] | None:
    """Return the self-check that a permuted original does not pass.

    None for a run without an original or such checks.
    """
    original = session.roles.get("original")
    return (
        None
        if original is None or not session.checks.family(EQUIVALENCE)
        else lambda: _noticed(session, original, judge)
    )


def _noticed(session: StressSession, original: RoleModel, judge: Judge) -> Finding:
    """Check that the original with permuted predictions does not pass.

    1% of them are permuted, or the tolerance if it is larger. A check by conversions has a
    threshold for as many images as it was made with.
    """
    images, judged = len(session.images), []
    checks = [
        check
        for check in session.checks.family(EQUIVALENCE)
        if check.metric == PREDICTIONS_CHANGED.name
        and (
            check.panel and check.panel.n == images
            if check.by_conversions
            else check.tolerance is not None
        )
    ]
    if not checks:
        raise NotApplicableError(f"no check on {PREDICTIONS_CHANGED.name} has a tolerance")
    for check in checks:
        limit = check.binding.threshold if check.binding else 0
        share = max(TOLERANCE, limit + check.by_conversions / images)
        permuted = replace(
            original, role="candidate", classifier=_Permuted(original.classifier, share)
        )
        if (verdict := judge(with_candidate(session, permuted), check)) is not None:
            judged.append(verdict)
    if not judged:
        raise NotApplicableError(f"no test of {PREDICTIONS_CHANGED.name} was collected")
    harm = f"the original with {share:.1%} of its predictions permuted"
    judged = [verdict for verdict in judged if verdict.status != "informational"]
    if not judged:
        raise NotApplicableError(
            "the checks on changed predictions are informational for so few images"
        )
    if passed := [verdict for verdict in judged if verdict.status == "pass"]:
        return Finding(
            holds=False, detail=f"{harm} passes: {passed[0].explain()}; correct the test"
        )
    return Finding(holds=True, detail=f"{harm} does not pass as equal")


class _Permuted(standins.StandIn):
    """Gives the predictions of another classifier, a share of them moved to the next class."""

    def __init__(self, original: Classifier, share: float) -> None:
        super().__init__(original.provides)
        self._original, self._share = original, share

    def _predictions(self, images: LabelledImages, perturbation: Perturbation) -> Predictions:
        found = self._original.predict(images, perturbation)
        answers = found.answers.copy()
        at = np.unique(
            np.linspace(0, len(answers) - 1, math.ceil(self._share * len(answers))).astype(np.int64)
        )
        answers[at] = np.roll(answers[at], 1, axis=1)
        return replace(found, answers=answers, images=images, perturbation=perturbation, exact=None)
