"""Self-checks of the stress tests: a mutant in the candidate's role fails where it should."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from harness.checks import Check, Verdict
from harness.inference.standins import at_random, standing_in, wrong_by
from harness.measures.statistics import mcnemar_p
from harness.run.outcome import SelfCheck
from harness.run.session import StressSession

if TYPE_CHECKING:
    import numpy as np

    from harness.checks.damages import Damage
    from harness.inference import RoleModel

HURTS = 0.001
"""A damage counts as one when McNemar's p, of failures with it and without, is below this."""

Judge = Callable[[StressSession, Check], Verdict | None]
"""Runs the stress test of a check's family in a session; None when there is no such test."""


def is_noticed(family: str, damage: Damage, sampled: StressSession, judge: Judge) -> SelfCheck:
    """Check that some check of the family fails a mutant in the candidate's role."""
    checks = [
        check
        for check in sampled.checks.family(family)
        if check.binding and check.role == "candidate" and damage.concerns(check)
    ]
    if not checks:
        detail = f"no check of family {family!r} that is about this has a threshold"
        return SelfCheck(damage.name, "not_applicable", detail)
    unhurt = ""
    for subject in _subjects(sampled):
        damaged = damage.apply(subject, checks, sampled.images.classes)
        fails, failed = damage.fails(damaged.predict(sampled.images)), damage.fails(subject.predict(sampled.images))
        if not _is_worse(fails, failed):
            unhurt = unhurt or (
                f"no harm to this model: its copy fails {fails.sum()} of {len(fails)} images, {failed.sum()} before; "
            )
            continue
        harm = f"the mutant fails {fails.sum()} of {len(fails)} images, {failed.sum()} before, and"
        if subject.role != "candidate":
            harm = f"{unhurt}of the {subject.role}, {harm}"
        return _judged(checks, sampled, judge, broken=(damaged,), name=damage.name, harm=harm)
    candidate = sampled.roles["candidate"]
    stand_ins = tuple(standing_in(candidate, answer) for answer in (wrong_by(1), at_random(0)))
    harm = f"{unhurt}of predictions that are all wrong, or random,"
    return _judged(checks, sampled, judge, broken=stand_ins, name=damage.name, harm=harm)


def _subjects(sampled: StressSession) -> list[RoleModel]:
    """Return the models to damage, the candidate first; another one counts where damage does not hurt those before."""
    known: dict[str, RoleModel] = {}
    for role in ("candidate", *sampled.roles):
        known.setdefault(sampled.roles[role].model_sha256, sampled.roles[role])
    return list(known.values())


def _judged(
    checks: Sequence[Check],
    sampled: StressSession,
    judge: Judge,
    *,
    broken: Sequence[RoleModel],
    name: str,
    harm: str,
) -> SelfCheck:
    """Return whether a check fails one of the broken models in the candidate's role; `harm` says how it is broken."""
    family, passed = checks[0].family, dict[str, tuple[Check, Verdict]]()
    for model in broken:
        of_another = model.role != "candidate"
        part = replace(model, role="candidate", model_sha256="damaged") if of_another else model
        with_broken = replace(sampled, roles={**sampled.roles, "candidate": part})
        for check in checks:
            verdict = judge(with_broken, check)
            if verdict is not None and verdict.status == "fail":
                return SelfCheck(name, "pass", f"{harm} check {check.id} of family {family!r} notices")
            if verdict is not None:
                passed[check.id] = check, verdict
    if not passed:
        but = "was collected, or only with fixtures that a self-check cannot give"
        return SelfCheck(name, "not_applicable", f"no test of family {family!r} {but}")
    # A check that the intact model fails can fail. A mutant may even correct a prediction, such as that for the image
    # of a golden check, which says nothing against the threshold.
    blind = [now for check, now in passed.values() if (own := judge(sampled, check)) is None or own.status != "fail"]
    if not blind:
        return SelfCheck(
            name,
            "not_applicable",
            f"the intact model fails all {len(passed)} checks of family {family!r}, and the damage mends that",
        )
    return SelfCheck(
        name,
        "fail",
        f"{harm} all {len(blind)} checks of family {family!r} let it pass, such as {blind[0].explain()}; "
        f"set thresholds that can fail in {sampled.checks.path}, or correct the test",
    )


def _is_worse(fails: np.ndarray, failed: np.ndarray) -> bool:
    new, gone = int((fails & ~failed).sum()), int((failed & ~fails).sum())
    return new > gone and mcnemar_p(new, gone) < HURTS
