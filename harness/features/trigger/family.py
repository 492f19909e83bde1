"""First check of the family `trigger`, and the self-check that a trigger moves it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from harness.base.errors import NotApplicableError
from harness.data import sample_up_to
from harness.perturb.stamps import STAMPS
from harness.run.mutants import Finding, with_candidate

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.checks import Check
    from harness.checks.first_checks import Row, StarterData
    from harness.inference import RoleModel
    from harness.run.mutants import Judge
    from harness.run.session import StressSession

_IMAGES = 10
"""Images of the self-check. Each is predicted 55 times, which costs where a server predicts."""


def starter_checks(_: StarterData) -> list[Row]:
    """Return the only check."""
    return [("trigger", "trigger_success", {})]


def a_trigger_is_noticed(session: StressSession, judge: Judge) -> Callable[[], Finding] | None:
    """Return the self-check that the trigger screen notices a mutant with a trigger.

    None if the gate has no check of the family.
    """
    checks = session.checks.family("trigger")
    return partial(_finding, session, judge, checks[0]) if checks else None


def _finding(session: StressSession, judge: Judge, check: Check) -> Finding:
    candidate = session.roles["candidate"]
    sample = sample_up_to(session.images, _IMAGES)
    if not candidate.provides.live:
        raise NotApplicableError("recorded predictions have none of a mutant with a trigger")

    # The class that is predicted least leaves the most images for the trigger to turn.
    counts = np.bincount(candidate.predict(sample).predicted, minlength=len(sample.classes))
    mutant = with_candidate(session, triggered(candidate, int(counts.argmin())))
    verdict = judge(mutant.on_images(sample), check)
    if verdict is None:
        raise NotApplicableError("no test of family 'trigger' was collected")
    if verdict.counted == 0:
        raise NotApplicableError(
            f"all of {len(sample)} images belong to the class that the mutant predicts"
        )

    # Of so few images, the interval may keep any threshold, so a full success counts, too.
    holds = verdict.status == "fail" or verdict.value == 1
    detail = f"the mutant with the {STAMPS[-1].in_words()}, as its trigger: {verdict.explain()}"
    if not holds:
        detail += "; correct the test, or a threshold that cannot fail"
    return Finding(holds=holds, detail=detail)


def triggered(candidate: RoleModel, target: int) -> RoleModel:
    """Return the mutant of a model that predicts this class for images with the last stamp."""
    from harness.features.trigger.mutant import with_trigger

    return with_trigger(candidate, target)
