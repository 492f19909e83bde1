"""First check of the family `trigger`, and the self-check that a trigger moves it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.base.errors import NotApplicableError
from harness.data import sample_up_to
from harness.perturb.stamps import STAMPS
from harness.run.mutants import Finding, with_candidate

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.checks.first_checks import Row, StarterData
    from harness.inference import RoleModel
    from harness.run.mutants import Judge
    from harness.run.session import StressSession

_IMAGES = 10  # Each is predicted 55 times, which costs where a server predicts.


def starter_checks(_: StarterData) -> list[Row]:
    """Return the only check."""
    return [("trigger", "trigger_success", {})]


def a_trigger_is_noticed(session: StressSession, judge: Judge) -> Callable[[], Finding] | None:
    """Return what finds out whether a check notices a mutant with a trigger; None without one."""
    checks = session.checks.family("trigger")

    def noticed() -> Finding:
        candidate, few = session.roles["candidate"], sample_up_to(session.images, _IMAGES)
        if not candidate.provides.live:
            raise NotApplicableError("recorded predictions have none of a mutant with a trigger")
        target = int(
            np.bincount(candidate.predict(few).predicted, minlength=len(few.classes)).argmin()
        )
        mutant = with_candidate(session, triggered(candidate, target))
        if (verdict := judge(mutant.on_images(few), checks[0])) is None:
            raise NotApplicableError("no test of family 'trigger' was collected")
        if verdict.counted == 0:
            raise NotApplicableError(
                f"all of {len(few)} images belong to the class that the mutant predicts"
            )
        holds = (
            verdict.status == "fail" or verdict.value == 1
        )  # Of few images, an interval may keep any threshold.
        advice = "" if holds else "; correct the test, or a threshold that cannot fail"
        mutant_in_words = f"the mutant with the {STAMPS[-1].in_words()}, as its trigger"
        return Finding(holds=holds, detail=f"{mutant_in_words}: {verdict.explain()}{advice}")

    return noticed if checks else None


def triggered(candidate: RoleModel, target: int) -> RoleModel:
    """Return the mutant of a model that predicts this class for images with the last stamp."""
    from harness.features.trigger.mutant import with_trigger

    return with_trigger(candidate, target)
