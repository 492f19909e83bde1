"""Self-checks of the stress tests.

Mutants and stand-ins in the candidate's role fail where they should.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.base.errors import NotApplicableError, some_of
from harness.checks import Check, Verdict
from harness.checks.wording import numbers
from harness.inference import standins
from harness.measures import METRICS
from harness.measures.slices import CLASS_DIFFERENCE, GROUP_DIFFERENCE
from harness.measures.statistics import mcnemar_p
from harness.run.findings import named_check
from harness.run.session import StressSession

if TYPE_CHECKING:
    from harness.checks.damages import Damage
    from harness.inference import RoleModel


FOLLOW = "checks-follow-the-candidate"
_DRAWS = 6
"""Random stand-ins: a net change of few images is zero by chance for two of them about once in a
hundred checks.
"""
HURTS = 0.001
"""A damage counts as one when McNemar's p, of failures with it and without, is below this."""
Judge = Callable[[StressSession, Check], Verdict | None]
"""Runs the stress test of a check's family in a session; None when there is no such test."""


@dataclass(frozen=True)
class Finding:
    """Result of a self-check; one that is not applicable raises `NotApplicableError` instead.

    `check` is the id of the only check that a failed self-check puts in doubt, if there is one.
    """

    holds: bool
    detail: str
    check: str = ""


class CannotNoticeError(NotApplicableError):
    """Tests follow the mutant, but its values stay within thresholds.

    A much worse model exceeds these.
    """


def checks_follow_the_candidate(sampled: StressSession, judge: Judge) -> Finding:
    """Check each threshold on the candidate with stand-ins in all roles.

    They know the labels and cost no pass. The value must depend on the stand-in in the candidate's
    role. One that is wrong on all images must not pass where one that is right on all passes. For a
    difference to other images, it is wrong on one side only.
    """
    checks = [
        check for check in sampled.checks.checks if check.binding and check.role == "candidate"
    ]
    if not checks:
        raise NotApplicableError("no check of the candidate has a threshold")
    silent, lenient = list[str](), list[str]()
    for check in checks:
        try:
            wrong = _mistake(check, sampled, judge)
        except CannotNoticeError:
            lenient.append(check.id)
            continue
        if wrong:
            advice = f"correct the test, or set a threshold that can fail in {sampled.checks.path}"
            return Finding(
                holds=False, detail=f"{named_check(check)} {wrong}; {advice}", check=check.id
            )
        if wrong is None:
            silent.append(check.id)
    detail = (
        f"{len(checks) - len(silent)} of {len(checks)} checks with a threshold measure other "
        "values when the candidate's predictions are replaced by right, wrong and random ones"
    )
    if silent:
        detail += (
            "; not self-checked, because the test needs a network, does not apply, or takes "
            "fixtures of its own that depend on the run or serve one call only: "
        )
        detail += some_of(silent, shown=20)
    if lenient:
        detail += (
            "; reference models differ so much that a candidate which is wrong on all images keeps "
            "the threshold of "
        )
        detail += some_of(lenient, shown=20)
    if len(silent) == len(checks):
        raise NotApplicableError(detail)
    return Finding(holds=True, detail=detail)


def _mistake(check: Check, sampled: StressSession, judge: Judge) -> str | None:
    """Say what is wrong with the test of a check.

    Empty if nothing is, None if stand-ins cannot tell.

    Raises `CannotNoticeError` for a test that follows the candidate, with a threshold of reference
    models that no candidate misses: test and threshold are right, and few models or images are the
    reason.
    """
    # A stand-in is no reference model, though the candidate may be one.
    panel = sampled.panel_predictions and replace(sampled.panel_predictions, excluded=None)

    def judged(
        answer: standins.Answer, *, others: standins.Answer = standins.mostly_right
    ) -> Verdict | None:
        answers = dict.fromkeys(sampled.roles, others) | {"candidate": answer}
        roles = {
            role: standins.standing_in(model, answers[role])
            for role, model in sampled.roles.items()
        }
        try:
            return judge(replace(sampled, roles=roles, panel_predictions=panel), check)
        except Exception:  # A test may expect a network, or be given what it cannot measure.
            return None

    wrong, compared = _wrong(check, sampled)
    all_wrong, all_right = judged(wrong), judged(standins.right)
    differ = all_wrong is not None and all_right is not None and all_wrong.value != all_right.value
    if differ and any(
        verdict is not None and _exceeds(verdict) for verdict in (all_wrong, all_right)
    ):
        return ""
    shown = [all_wrong, all_right, *(judged(standins.at_random(seed)) for seed in range(_DRAWS))]
    verdicts = [verdict for verdict in shown if verdict is not None and verdict.value is not None]
    if len(verdicts) <= 1:
        return None
    shipped = METRICS.ships(check.metric)
    if len({verdict.value for verdict in verdicts}) == 1:
        # Another metric may be the same for all models, unless it is another with other models in
        # the other roles.
        other = None if shipped else judged(standins.right, others=standins.wrong_by(1))
        if shipped or (other is not None and other.value != verdicts[0].value):
            return (
                f"measures {numbers(verdicts[0], decimals=4)[0]}, whether the candidate's "
                "predictions are all right, all wrong or random: it measures something else than "
                "the candidate"
            )
        return None
    if (
        shipped
        and differ
        and all_wrong is not None
        and all(verdict.status == "pass" for verdict in verdicts)
    ):
        passes = f"passes a candidate that is wrong on {compared} ({all_wrong.explain()})"
        if check.by_hand is None:
            raise CannotNoticeError(passes)
        return passes
    return ""


def _wrong(check: Check, sampled: StressSession) -> tuple[standins.Answer, str]:
    """Return what is wrong on the images that a check is about, and these as text.

    Of a difference, those are of one side: a candidate that is wrong on all images shows none. For
    a pair of classes, it takes either for the other.
    """
    images, pair, by = sampled.images, check.keys.get("pair"), str(check.keys.get("by"))
    one_side = "all images of its group, and on no others"
    if check.metric == CLASS_DIFFERENCE.name and check.class_name in images.classes:
        return standins.wrong_by(
            images.labels.numpy() == images.classes.index(check.class_name)
        ), one_side
    if check.metric == GROUP_DIFFERENCE.name and by in images.groups:
        return standins.wrong_by(np.asarray(images.groups[by] == check.keys.get("group"))), one_side
    if pair and set(pair) <= set(images.classes) and len(set(pair)) > 1:
        return standins.wrong_by_swapping(*map(images.classes.index, pair)), "all images"
    return standins.wrong_by(1), "all images"


def is_noticed(family: str, damage: Damage, sampled: StressSession, judge: Judge) -> Finding:
    """Check that some check of the family fails a mutant in the candidate's role.

    Where the damage does not hurt the candidate, another model is damaged, and at last stand-ins
    take the role. Raises `CannotNoticeError` where the thresholds of healthy checks are beyond this
    mutant, see `judged_unnoticed`.
    """
    checks = [
        check
        for check in sampled.checks.family(family)
        if check.binding and check.role == "candidate" and damage.concerns(check)
    ]
    if not checks:
        raise NotApplicableError(
            f"no check of family {family!r} that is about this has a threshold"
        )
    broken, harm = _mutants(damage, checks, sampled)
    passed = dict[str, tuple[Check, Verdict]]()
    for model in broken:
        for check in checks:
            verdict = judge(with_candidate(sampled, model), check)
            if verdict is not None and verdict.status == "fail":
                return Finding(holds=True, detail=f"{harm} {named_check(check)} notices")
            if verdict is not None:
                passed[check.id] = check, verdict
    if not passed:
        raise NotApplicableError(
            f"no test of family {family!r} was collected, applies and can be self-checked"
        )
    return judged_unnoticed(
        family, [*passed.values()], sampled, judge, harm=harm, fault=damage.in_words
    )


def _mutants(
    damage: Damage, checks: Sequence[Check], sampled: StressSession
) -> tuple[tuple[RoleModel, ...], str]:
    """Return the models in which checks must notice the damage, and how much it hurts.

    The text is the start of a sentence.
    """
    candidate, unhurt = sampled.roles["candidate"], ""
    models: dict[str, RoleModel] = {}
    for model in (candidate, *sampled.roles.values()):
        models.setdefault(model.model_sha256, model)
    for subject in models.values():
        damaged = damage.apply(subject, checks, sampled.images.classes)
        fails, failed = (
            damage.fails(damaged.predict(sampled.images)),
            damage.fails(subject.predict(sampled.images)),
        )
        new, gone = int((fails & ~failed).sum()), int((failed & ~fails).sum())
        if new > gone and mcnemar_p(new, gone) < HURTS:
            harm = (
                f"the mutant fails {fails.sum()} of {len(fails)} images, {failed.sum()} before, and"
            )
            if subject.role != "candidate":
                harm = f"of the {subject.role}, {harm}"
                damaged = replace(damaged, role="candidate", model_sha256="damaged")
            return (damaged,), f"{unhurt}{harm}"
        unhurt = unhurt or (
            f"no harm to this model: its copy fails {fails.sum()} of {len(fails)} images, "
            f"{failed.sum()} before; "
        )
    stand_ins = (
        standins.standing_in(candidate, answer)
        for answer in (standins.wrong_by(1), standins.at_random(0))
    )
    return tuple(stand_ins), f"{unhurt}of predictions that are all wrong, or random,"


def finding_of_family(
    family: str,
    checks: Sequence[Check],
    mutant: StressSession,
    intact: StressSession,
    judge: Judge,
    *,
    harm: str,
    fault: str,
) -> Finding:
    """Return whether a check of a family fails a mutant; raises as `judged_unnoticed` does.

    Also raises `NotApplicableError` if no check was collected, and if none measures the mutant.
    """
    judged = [(check, verdict) for check in checks if (verdict := judge(mutant, check)) is not None]
    if not judged:
        raise NotApplicableError(f"no test of family {family!r} was collected")
    measured = [(check, verdict) for check, verdict in judged if verdict.value is not None]
    if not measured:
        raise NotApplicableError(judged[0][1].detail)
    for check, verdict in measured:
        if verdict.status == "fail":
            return Finding(holds=True, detail=f"{harm} {named_check(check)} notices")
    return judged_unnoticed(family, measured, intact, judge, harm=harm, fault=fault)


def judged_unnoticed(
    family: str,
    passed: Sequence[tuple[Check, Verdict]],
    sampled: StressSession,
    judge: Judge,
    *,
    harm: str,
    fault: str,
) -> Finding:
    """Return why no check of the family fails a mutant.

    A failed self-check, unless checks and model are healthy.

    `passed` has the checks that let the mutant pass, with their verdicts on it. A check is healthy
    if its value follows the mutant. Its threshold is one of reference models, or one by hand that
    fails a model which is wrong on every second image. Then the threshold is beyond this mutant by
    arithmetic: 1.4% of errors allow a calibration error of at most 1.4%. `CannotNoticeError` says
    so.
    """
    intact = {check.id: judge(sampled, check) for check, _ in passed}
    # A check that the intact model fails can fail. A mutant may even correct a prediction, such as
    # that for the image of a golden check, which says nothing against the threshold.
    blind = [(check, verdict) for check, verdict in passed if not _fails(intact[check.id])]
    if not blind:
        said = f"the intact model fails all {len(passed)} checks of family {family!r}"
        raise NotApplicableError(f"{said}, and the damage mends that")
    follows = [
        (check, verdict)
        for check, verdict in blind
        if (own := intact[check.id]) is not None and own.value != verdict.value
    ]
    if excused := [check for check, verdict in follows if _exceeds(verdict)]:
        beyond = (
            f"{harm} {named_check(excused[0])} is beyond its threshold, within the interval of "
            "few images"
        )
        return Finding(holds=True, detail=beyond)
    lenient = [(check, verdict) for check, verdict in follows if check.by_hand is None]
    if not lenient:
        lenient = _strict(follows, sampled, judge)
    if lenient:
        check, verdict = lenient[0]
        value, threshold = numbers(verdict, decimals=4)
        raise CannotNoticeError(
            f"this check cannot notice {fault}: {harm} no check of family {family!r} fails. "
            f"For example, {check.id} has {value} for the mutant, and its threshold is {threshold}"
        )
    by_hand = any(check.by_hand for check, _ in blind)
    advice = f"set thresholds that can fail in {sampled.checks.path}, or correct the test"
    if not by_hand:
        advice = "correct the test"
    let_pass = (
        f"{harm} all {len(blind)} checks of family {family!r} let it pass, such as "
        f"{blind[0][1].explain()}"
    )
    return Finding(holds=False, detail=f"{let_pass}; {advice}")


def _strict(
    passed: Sequence[tuple[Check, Verdict]],
    sampled: StressSession,
    judge: Judge,
) -> list[tuple[Check, Verdict]]:
    """Return the checks that fail a mutant of the candidate.

    It is wrong on every second image, and certain.
    """
    from harness.checks.damages import half_wrong

    checks = [check for check, _ in passed]
    if not checks:
        return []
    worse = half_wrong(sampled.roles["candidate"], checks, sampled.images.classes)
    return [
        (check, verdict)
        for check, verdict in passed
        if _fails(judge(with_candidate(sampled, worse), check))
    ]


def _fails(verdict: Verdict | None) -> bool:
    return verdict is not None and verdict.status == "fail"


def _exceeds(verdict: Verdict) -> bool:
    """Return whether a value is beyond its threshold, even if an interval excuses it."""
    if verdict.value is None or verdict.threshold is None:
        return False
    return not verdict.check.holds(verdict.value, verdict.threshold)


def with_changed_network(session: StressSession, change: Callable[[Any], None]) -> StressSession:
    """Return a session whose candidate is a copy that `change` changes in place, without gradients.

    Raises `NotApplicableError` for a candidate that is no network.
    """
    import torch

    candidate = session.roles["candidate"]
    if not candidate.provides.layers:
        raise NotApplicableError(f"a model of the kind {candidate.architecture} has no layers")
    network = copy.deepcopy(candidate.classifier.plain)
    with torch.no_grad():
        change(network)
    return with_candidate(
        session, replace(candidate, classifier=candidate.classifier.like(network))
    )


def with_candidate(session: StressSession, model: RoleModel) -> StressSession:
    """Return a session with a model in the candidate's role."""
    return replace(session, roles={**session.roles, "candidate": model})
