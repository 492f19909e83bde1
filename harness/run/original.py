"""Self-check of the family `equivalence`: a copy of the original with changed predictions does not pass."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.checks.equivalence import EQUIVALENCE, TOLERANCE
from harness.inference import Predictions
from harness.measures.changed_predictions import PREDICTIONS_CHANGED
from harness.perturb import IDENTITY
from harness.run.outcome import SelfCheck

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.checks import Check
    from harness.perturb import Perturbation
    from harness.run.noticed import Judge
    from harness.run.session import StressSession


def original_checks(session: StressSession, judge: Judge) -> dict[str, Callable[[], SelfCheck]]:
    """Return the self-check of a run with an original, by name; none without checks that it is needed for."""
    if "original" not in session.roles or not session.checks.family(EQUIVALENCE):
        return {}
    return {"changed-original": lambda: _changes_are_noticed(session, judge)}


def _changes_are_noticed(session: StressSession, judge: Judge) -> SelfCheck:
    """Check that the original with 1% of its predictions permuted, or the tolerance if it is larger, does not pass."""
    name = "changed-original"
    checks = [
        check
        for check in session.checks.family(EQUIVALENCE)
        if check.metric == PREDICTIONS_CHANGED.name and _is_held(check, session)
    ]
    if not checks:
        return SelfCheck(name, "not_applicable", f"no check on {PREDICTIONS_CHANGED.name} has a tolerance")
    original = session.roles["original"]
    passed, judged = [], 0
    for check in checks:
        limit = check.binding.threshold if check.binding else 0
        share = max(TOLERANCE, limit + check.by_conversions / len(session.images))
        permuted = replace(original, role="candidate", classifier=_Permuted(original.classifier, share))  # type: ignore[arg-type]
        verdict = judge(replace(session, roles={**session.roles, "candidate": permuted}), check)
        judged += verdict is not None
        if verdict is not None and verdict.passed:
            passed.append(verdict)
    if not judged:
        return SelfCheck(name, "not_applicable", f"no test of {PREDICTIONS_CHANGED.name} was collected")
    harm = f"the original with {share:.1%} of its predictions permuted"
    if passed:
        return SelfCheck(name, "fail", f"{harm} passes: {passed[0].explain()}; correct the test")
    return SelfCheck(name, "pass", f"{harm} does not pass as equal")


def _is_held(check: Check, session: StressSession) -> bool:
    """Return whether a check has a tolerance, or a threshold by conversions that was made for this many images."""
    if check.by_conversions:
        return check.panel is not None and check.panel.n == len(session.images)
    return check.tolerance is not None


class _Permuted:
    """A classifier with the predictions of another one, a share of them moved to the next class."""

    def __init__(self, classifier: Any, share: float) -> None:
        self._classifier, self._share = classifier, share

    def __getattr__(self, name: str) -> Any:
        return getattr(self._classifier, name)

    def predict(self, images: Any, perturbation: Perturbation = IDENTITY) -> Predictions:
        """Return the predictions, every so many of them permuted."""
        found = self._classifier.predict(images, perturbation)
        answers = found.answers.copy()
        at = np.unique(np.linspace(0, len(answers) - 1, math.ceil(self._share * len(answers))).astype(np.int64))
        answers[at] = np.roll(answers[at], 1, axis=1)
        return Predictions(answers, images, perturbation, known=found.known)
