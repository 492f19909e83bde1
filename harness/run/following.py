"""Self-check that checks follow the candidate: with other predictions in its role they measure other values."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from harness.base.errors import some_of
from harness.inference.standins import (
    Answer,
    at_random,
    mostly_right,
    right,
    standing_in,
    wrong_by,
    wrong_by_swapping,
)
from harness.measures import METRICS
from harness.measures.slices import CLASS_DIFFERENCE, GROUP_DIFFERENCE
from harness.run.outcome import SelfCheck

if TYPE_CHECKING:
    from harness.checks import Check, Verdict
    from harness.run.mutants import Judge
    from harness.run.session import StressSession

FOLLOW = "checks-follow-the-candidate"
_DRAWS = 6
"""Random stand-ins: a net change of few images is zero by chance for two of them about once in a hundred checks."""


def checks_follow_the_candidate(sampled: StressSession, judge: Judge) -> SelfCheck:
    """Check each threshold on the candidate with stand-ins in all roles, which know the labels and cost no pass.

    The value must depend on the stand-in in the candidate's role. One that is wrong on all images must not pass where
    one that is right on all passes. For a difference to other images, it is wrong on one side only.
    """
    checks = [check for check in sampled.checks.checks if check.binding and check.role == "candidate"]
    if not checks:
        return SelfCheck(FOLLOW, "not_applicable", "no check of the candidate has a threshold")
    silent = []
    for check in checks:
        wrong = _mistake(check, sampled, judge)
        if wrong:
            advice = f"correct the test, or set a threshold that can fail in {sampled.checks.path}"
            return SelfCheck(FOLLOW, "fail", f"check {check.id} of family {check.family!r} {wrong}; {advice}")
        if wrong is None:
            silent.append(check.id)
    told, others = len(checks) - len(silent), ""
    if silent:
        others = "; the others need a network, do not apply or take a fixture that cannot be made here: "
        others += some_of(silent, shown=20)
    return SelfCheck(
        FOLLOW,
        "pass" if told else "not_applicable",
        f"{told} of {len(checks)} checks with a threshold measure other values when the candidate's predictions are "
        f"replaced by right, wrong and random ones{others}",
    )


def _mistake(check: Check, sampled: StressSession, judge: Judge) -> str | None:
    """Say what is wrong with the test of a check; empty if nothing is, None if stand-ins cannot tell."""
    # A stand-in is no reference model, though the candidate may be one.
    panel = sampled.panel_predictions and replace(sampled.panel_predictions, excluded=None)

    def judged(answer: Answer, *, others: Answer = mostly_right) -> Verdict | None:
        answers = dict.fromkeys(sampled.roles, others) | {"candidate": answer}
        roles = {role: standing_in(model, answers[role]) for role, model in sampled.roles.items()}
        try:
            return judge(replace(sampled, roles=roles, panel_predictions=panel), check)
        except Exception:  # A test may expect a network, or be given what it cannot measure.
            return None

    wrong, compared = _wrong(check, sampled)
    all_wrong, all_right = judged(wrong), judged(right)
    differ = all_wrong is not None and all_right is not None and all_wrong.value != all_right.value
    if differ and any(verdict is not None and verdict.status == "fail" for verdict in (all_wrong, all_right)):
        return ""
    shown = [all_wrong, all_right, *(judged(at_random(seed)) for seed in range(_DRAWS))]
    verdicts = [verdict for verdict in shown if verdict is not None and verdict.value is not None]
    if len(verdicts) <= 1:
        return None
    shipped = check.metric in METRICS.shipped
    if len({verdict.value for verdict in verdicts}) == 1:
        # Another metric may be the same for all models, unless it is another with other models in the other roles.
        other = None if shipped else judged(right, others=wrong_by(1))
        if shipped or (other is not None and other.value != verdicts[0].value):
            return (
                f"measures {verdicts[0].numbers[0]}, whether the candidate's predictions are all right, all wrong or "
                "random: it measures something else than the candidate"
            )
        return None
    if shipped and differ and all_wrong is not None and all(verdict.status == "pass" for verdict in verdicts):
        return f"passes a candidate that is wrong on {compared} ({all_wrong.explain()})"
    return ""


def _wrong(check: Check, sampled: StressSession) -> tuple[Answer, str]:
    """Return what is wrong on the images that a check is about, and these as text.

    Of a difference, those are of one side: a candidate that is wrong on all images shows none. For a pair of classes,
    it takes either for the other.
    """
    images, pair, by = sampled.images, check.keys.get("pair"), str(check.keys.get("by"))
    one_side = "all images of its group, and on no others"
    if check.metric == CLASS_DIFFERENCE.name and check.class_name in images.classes:
        return wrong_by(images.labels.numpy() == images.classes.index(check.class_name)), one_side
    if check.metric == GROUP_DIFFERENCE.name and by in images.groups:
        return wrong_by(np.asarray(images.groups[by] == check.keys.get("group"))), one_side
    if pair and set(pair) <= set(images.classes) and len(set(pair)) > 1:
        return wrong_by_swapping(*map(images.classes.index, pair)), "all images"
    return wrong_by(1), "all images"
