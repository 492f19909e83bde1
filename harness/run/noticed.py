"""Self-checks of the stress tests: a damaged model in the candidate's role fails where it should."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from harness.checks import Check, Verdict
from harness.measures.statistics import mcnemar_p
from harness.run.outcome import SelfCheck
from harness.run.session import StressSession

if TYPE_CHECKING:
    import numpy as np

    from harness.checks.damages import Damage

HURTS = 0.001
"""A damage counts as one when McNemar's p, of failures with it and without, is below this."""

Judge = Callable[[StressSession, Check], Verdict | None]
"""Runs the stress test of a check's family in a session; None when there is no such test."""


def is_noticed(family: str, damage: Damage, sampled: StressSession, judge: Judge) -> SelfCheck:
    """Check that some check of the family fails a damaged model in the candidate's role."""

    def result(status: Literal["pass", "fail", "not_applicable"], detail: str) -> SelfCheck:
        return SelfCheck(damage.name, status, detail)

    checks = [
        check
        for check in sampled.checks.family(family)
        if check.binding and check.role == "candidate" and damage.concerns(check)
    ]
    if not checks:
        return result("not_applicable", f"no check of family {family!r} that is about this has a threshold")
    candidate = sampled.roles["candidate"]
    damaged = damage.apply(candidate, checks, sampled.images.classes)
    fails, failed = damage.fails(damaged.predict(sampled.images)), damage.fails(candidate.predict(sampled.images))
    if not _is_worse(fails, failed):
        return result(
            "not_applicable",
            f"no harm to this model: its copy fails {fails.sum()} of {len(fails)} images, {failed.sum()} before",
        )
    broken = replace(sampled, roles={**sampled.roles, "candidate": damaged})
    harm = f"the damaged copy fails {fails.sum()} of {len(fails)} images, {failed.sum()} before, and"
    passed = []
    for check in checks:
        verdict = judge(broken, check)
        if verdict is not None and verdict.status == "fail":
            return result("pass", f"{harm} check {check.id} of family {family!r} notices")
        if verdict is not None:
            passed.append((check, verdict))
    if not passed:
        but = "was collected, or only with fixtures that a self-check cannot give"
        return result("not_applicable", f"no test of family {family!r} {but}")
    # A check that this model fails as it is can fail: what damage makes right, such as the one image of a golden check,
    # says nothing against its threshold.
    blind = [now for check, now in passed if (own := judge(sampled, check)) is None or own.status != "fail"]
    if not blind:
        return result(
            "not_applicable",
            f"the model fails all {len(passed)} checks of family {family!r} as it is, and the damage mends that",
        )
    return result(
        "fail",
        f"{harm} all {len(blind)} checks of family {family!r} let it pass, such as {blind[0].explain()}; "
        f"set thresholds that can fail in {sampled.checks.path}, or correct the test",
    )


def _is_worse(fails: np.ndarray, failed: np.ndarray) -> bool:
    new, gone = int((fails & ~failed).sum()), int((failed & ~fails).sum())
    return new > gone and mcnemar_p(new, gone) < HURTS
