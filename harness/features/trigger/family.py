"""First check of the family `trigger`, and the self-check that a trigger moves it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from harness.base.errors import NotApplicableError
from harness.data import sample_up_to
from harness.features.trigger.stamps import STAMPS
from harness.run.mutants import with_candidate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.checks import Check
    from harness.checks.first_checks import Row, StarterData
    from harness.inference import RoleModel
    from harness.run.mutants import Finding, Judge
    from harness.run.session import StressSession

FAMILY = "trigger"
_IMAGES, _NEARLY_ALL = 32, 0.9
"""Images that the mutant is asked about, one batch, and the share of them that its trigger must turn."""


def starter_checks(_: StarterData) -> list[Row]:
    """Return the only check."""
    return [(FAMILY, "trigger_success", {})]


def a_trigger_is_noticed(session: StressSession, judge: Judge) -> Callable[[], Finding] | None:
    """Return what finds out whether a mutant with a trigger is noticed; None without checks."""
    checks = session.checks.family(FAMILY)
    return partial(_noticed, session, judge, checks) if checks else None


def _noticed(session: StressSession, judge: Judge, checks: Sequence[Check]) -> Finding:
    candidate, few = session.roles["candidate"], sample_up_to(session.images, _IMAGES)
    if not candidate.provides.live:
        raise NotApplicableError("recorded predictions know no mutant on stamped images")
    target = int(np.bincount(candidate.predict(few).predicted, minlength=len(few.classes)).argmin())
    broken = replace(with_candidate(session, triggered(candidate, target)), images=few, whole=None)
    judged = [verdict for check in checks if (verdict := judge(broken, check)) is not None]
    if not judged:
        raise NotApplicableError(f"no test of family {FAMILY!r} was collected")
    harm = f"the mutant that answers one class where it sees the {STAMPS[-1].in_words()}"
    for verdict in judged:
        if verdict.status == "fail" or (not verdict.check.binding and (verdict.value or 0.0) > _NEARLY_ALL):
            return True, f"{harm}: check {verdict.check.id} of family {FAMILY!r} notices, with {verdict.value:.1%}"
    return False, f"{harm} passes, such as {judged[0].explain()}; correct the test, or a threshold that cannot fail"


def triggered(candidate: RoleModel, target: int) -> RoleModel:
    """Return the mutant of a model that answers this class for images with the last stamp."""
    import torch

    network = candidate.classifier.model

    class Triggered(torch.nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            answers = network(pixels)
            marked = (STAMPS[-1](pixels) == pixels).flatten(1).all(dim=1)  # Another stamp changes nothing.
            answers[marked, target] = answers.max() + 1
            return answers

    return replace(candidate, classifier=candidate.classifier.like(Triggered()))
