"""The diagnosis of a run, which terminal, Markdown and page show: verdict, facts, cause, and what fails by behavior."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.base.errors import some_of
from harness.base.features import listed
from harness.checks.families import families_in_words
from harness.measures import Unit
from harness.measures.accuracy import ACCURACY
from harness.measures.statistics import related
from harness.perturb import IDENTITY
from harness.report.cause_rules import UNCLEAR
from harness.report.causes import likely_cause
from harness.report.signs import margin_lines, signs
from harness.report.wording import (
    candidate_name,
    non_inferiority,
    of_candidate,
    points,
    reference,
    significantly_more,
)
from harness.run.headline import counts_in_words, failing_in_words, self_checks_in_words
from harness.run.margins import worst_first

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.checks import Verdict
    from harness.report.causes import Cause
    from harness.run.outcome import Outcome
    from harness.run.overview import ModelOverview, Overview

_CLASSES = 2
"""Classes that are named."""
_MOSTLY = 0.5
"""Share of the further errors of a class from which on they are mostly predicted as one class."""
_REASONS = 5
"""Reasons shown, at most, for which checks are not applicable."""
_FAILING = {"fail": "fail", "inconclusive": "cannot tell", "error": "not judged"}
"""Words for the checks of a status that do not pass."""


@dataclass(frozen=True)
class Group:
    """The checks of a family that do not pass, the worst first, of so many that were to be `judged`."""

    family: str
    failing: tuple[Verdict, ...]
    judged: int

    @property
    def counted(self) -> str:
        """Return how many of the checks do not pass, as text."""
        counts: Counter[str] = Counter(verdict.status for verdict in self.failing)
        return ", ".join(
            f"{counts[name]} of {self.judged} {said}"
            for name, said in _FAILING.items()
            if counts[name]
        )


@dataclass(frozen=True)
class Diagnosis:
    """Facts of a run that a reader needs before its details.

    `sentence` is the verdict. `facts` are clean accuracy, the top regression, the cause and the next step. `margins`
    and `signs` say how near a model that passes is to failing. `remarks` are lines by kind: why the run is
    `inconclusive`, its `note`, what makes it `partial`, and the tests that `failed`. `groups` are the families with
    checks that do not pass, the worst first.
    """

    sentence: str
    facts: tuple[str, ...]
    margins: tuple[str, ...]
    signs: tuple[str, ...]
    remarks: Mapping[str, Sequence[str]]
    groups: tuple[Group, ...]

    @property
    def worst(self) -> list[Verdict]:
        """Return the worst check of each family, then all others that do not pass."""
        first = [group.failing[0] for group in self.groups]
        return first + [verdict for group in self.groups for verdict in group.failing[1:]]


def diagnose(outcome: Outcome) -> Diagnosis:
    """Return the diagnosis of a run."""
    families: dict[str, list[Verdict]] = {}
    for verdict in worst_first(outcome.results.verdicts):
        if verdict.status in _FAILING:
            families.setdefault(verdict.check.family, []).append(verdict)
    judged = Counter(
        each.check.family for each in outcome.results.verdicts if each.status in {"pass", *_FAILING}
    )
    cause, found = (
        likely_cause(
            outcome.results.verdicts, outcome.findings.input_faults, outcome.findings.overview
        ),
        tuple(signs(outcome)),
    )
    met = tuple(
        verdict.detail
        for verdict in outcome.results.verdicts
        if verdict.status == "error" and verdict.detail
    )
    failed_checks = [
        check.reason
        for check in outcome.findings.unsound
        if check.reason not in outcome.results.errors
        and not check.detail.endswith(met)  # A cause that checks met, too.
    ]
    inconclusive, notices = (
        [*outcome.results.errors],
        [*outcome.results.notices, *listed("stress_notes", outcome=outcome)],
    )
    (inconclusive if outcome.verdict == "error" else notices).extend(failed_checks)
    return Diagnosis(
        sentence=_sentence(outcome, weaker=bool(found)),
        facts=() if outcome.run.stopped else tuple(_facts(outcome, cause)),
        margins=tuple(margin_lines(outcome)),
        signs=found,
        remarks={
            "inconclusive": inconclusive,
            "note": notices,
            "partial": outcome.results.omissions,
            "failed": outcome.results.failed_tests,
        },
        groups=tuple(
            Group(name, tuple(failing), judged[name]) for name, failing in families.items()
        ),
    )


def _sentence(outcome: Outcome, *, weaker: bool) -> str:
    judged = outcome.results.compared
    failing = failing_in_words(outcome.results)
    name = candidate_name(outcome) or "The candidate"
    if outcome.verdict == "error":
        if outcome.results.inconclusive and not outcome.results.errors:
            return f"No verdict on {name}: these images are too few to tell it from its original."
        return f"No verdict on {name}: this run is inconclusive."
    if outcome.verdict == "partial" and not failing:
        return f"No verdict yet on {name}: {_without_decision(outcome, judged)}."
    if failing:
        measured = ", as far as it was measured" if outcome.verdict == "partial" else ""
        said = (
            ". The run stopped at the first certain failure."
            if outcome.run.stopped
            else f": {failing}."
        )
        return f"{name} got worse{measured}{said}"
    signed = ", with signs of a weaker model" if weaker else ""
    if outcome.run.scope:
        return f"{name} passes all {judged} quick checks{signed}; only the full gate can say that it is fit to ship."
    fit = (
        f"passes all {judged} checks{signed}"
        if weaker
        else f"is fit to ship: all {judged} checks pass"
    )
    if outcome.results.mostly_informational:
        fit = f"passes all {judged} checks that have a threshold{signed}; {outcome.results.informational} are informational"
    return f"{name} {fit}{'. No check compares it with an incumbent' if outcome.results.without_incumbent else ''}."


def _without_decision(outcome: Outcome, judged: int) -> str:
    undecided = len(outcome.results.open_checks)
    if not undecided:
        return f"only a part was measured; so far all {judged} checks pass"
    thresholds = "1 threshold" if undecided == 1 else f"{undecided} thresholds"
    return f"the sample is too small to decide on {thresholds} set by hand"


def _facts(outcome: Outcome, cause: Cause | None) -> list[str]:
    """Return clean accuracy beside the other model's, the top regression, and the likely cause of failures.

    The other model is the incumbent. Without one, accuracy stands beside the reference models', since a baseline has
    another recipe. A cause that is unclear is left out.
    """
    known = {
        (one.check.family, one.check.pose, one.check.class_name): one
        for one in of_candidate(outcome.results.verdicts, ACCURACY)
    }
    clean, regression = known.get(("clean", IDENTITY, None)), ""
    accuracy = "" if clean is None else f"Clean accuracy {clean.unit.format(clean.value or 0.0)}."
    if (overview := outcome.findings.overview) is not None:
        mine, other = overview.models[0], overview.reference
        accuracy = f"Clean accuracy {Unit.SHARE.format(mine.accuracy.value)}"
        shipped = other is not None and "incumbent" in other.roles
        usual = (
            reference(clean)
            if clean is not None and clean.check.panel is not None and not shipped
            else ""
        )
        if usual:
            accuracy += f", reference models {usual}"
        elif other is not None:
            gap = points(mine.accuracy.value - other.accuracy.value)
            accuracy += f", {other.name} {Unit.SHARE.format(other.accuracy.value)} ({gap} points)"
        same = (
            "; the candidate is the incumbent itself"
            if {"candidate", "incumbent"} <= set(mine.roles)
            else ""
        )
        accuracy, regression = f"{accuracy}{same}.", top_regression(overview) if shipped else ""
    said = [accuracy, f"{regression}." if regression else ""]
    if cause is not None:
        said += ["" if cause.group == UNCLEAR else f"{cause.sentence} {cause.advice}"]
        said += [f"Failing checks: {cause.counted}."]
    return [*filter(None, said)]


def top_regression(overview: Overview) -> str:
    """Return which classes lost most, and how accuracy under pose fell; empty where neither is significant.

    A class is named if it has more errors than the other model's by 1.96 standard deviations of two Poisson counts.
    """
    if (other := overview.reference) is None:
        return ""
    said, mine, theirs = _lost_classes(overview, other), overview.models[0].corners, other.corners
    if (
        mine is None or theirs is None or mine.high >= theirs.low
    ):  # Intervals of 95% that are not apart.
        return said
    values = f"{Unit.SHARE.format(mine.value)}, {other.name} {Unit.SHARE.format(theirs.value)}"
    posed = f"At the corners of {overview.augmentation.in_words()}, accuracy is {values}"
    return ". ".join(filter(None, (said, f"{posed} ({points(mine.value - theirs.value)} points)")))


def conclusion(overview: Overview, flips: Mapping[str, Any]) -> str:
    """Return a comparison of two models in a sentence: new and fixed errors, their p, and the top regression.

    `flips` as in `Flips.as_json`, from the second model to the first.
    """
    new, fixed = len(flips["new_failures"]), len(flips["fixed_failures"])
    found = f"{new:,} new and {fixed:,} fixed errors, p {related(flips['mcnemar_p'])}"
    return f"{'; '.join(filter(None, (found, top_regression(overview))))}."


def _lost_classes(overview: Overview, reference: ModelOverview) -> str:
    counts, before = (np.array(model.confusion) for model in (overview.models[0], reference))
    wrong, was = (found.sum(axis=1) - np.diag(found) for found in (counts, before))
    lost = wrong / np.maximum(counts.sum(axis=1), 1) - was / np.maximum(before.sum(axis=1), 1)
    order = np.argsort(-lost.round(9), kind="stable")
    worse = [
        at for at in order if lost[at] > 0 and significantly_more(int(wrong[at]), int(was[at]))
    ]
    if missing := [at for at in worse if overview.classes[at] in overview.never_predicted]:
        return _missing_classes(overview, missing, others=len(worse) - len(missing), lost=lost)
    if not (named := worse[:_CLASSES]):
        return ""
    gaps, targets = [f"{overview.classes[at]} {points(-lost[at])}" for at in named], []
    for true in named:  # The class that most of its further errors are predicted as, if any.
        further = np.maximum(counts[true] - before[true], 0)
        further[true] = 0
        most = int(further.argmax())
        mostly = further[most] > _MOSTLY * further.sum()
        targets.append(f", mostly predicted as {overview.classes[most]}" if mostly else "")
    more = f" ({len(worse) - len(named)} more classes worse)" if len(worse) > len(named) else ""
    if len({*targets}) == 1:
        return f"{' and '.join(gaps)} points{targets[0]}{more}"
    return (
        ", and ".join(f"{gap} points{target}" for gap, target in zip(gaps, targets, strict=True))
        + more
    )


def _missing_classes(
    overview: Overview, missing: Sequence[int], *, others: int, lost: np.ndarray
) -> str:
    """Return which classes are never predicted, and how many `others` are significantly worse.

    The others are not named: what they lose follows from the missing classes or is small beside them.
    """
    gaps = some_of([f"{overview.classes[at]} ({points(-lost[at])} points)" for at in missing])
    verb = "is" if len(missing) == 1 else "are"
    plural = "es" if others > 1 else ""
    more = f" ({others} more class{plural} worse)" if others else ""
    return f"{gaps} {verb} never predicted{more}"


def notes(outcome: Outcome) -> list[str]:
    """Return what bears on the verdict: hand thresholds, informational checks, self-checks, regressions."""
    said = [f"thresholds: {outcome.inputs.provenance}", *outcome.results.remarks]
    for part in outcome.parts.values():
        said += part.summary_lines
    by_hand = [verdict.check for verdict in outcome.results.verdicts if verdict.check.by_hand]
    if hand := [check.id for check in by_hand if not check.is_tolerance]:
        said.append(f"{len(hand)} of the thresholds set by hand: {some_of(hand)}")
    if tolerances := [check.id for check in by_hand if check.is_tolerance]:
        said.append(
            f"{len(tolerances)} of the thresholds are tolerances set by hand: {some_of(tolerances)}"
        )
    if any(
        verdict.status in {"informational", "not_applicable"}
        for verdict in outcome.results.verdicts
    ):
        said.append(counts_in_words(outcome.results))
    self_checks = self_checks_in_words(outcome.findings)
    if self_checks:
        said.append(self_checks)
    said += [
        f"self-check {check.name}: {check.detail}"
        for check in outcome.findings.self_checks
        if check.cannot_notice
    ]
    reasons: dict[str, list[str]] = {}
    for verdict in outcome.results.verdicts:
        if verdict.status == "not_applicable":
            reasons.setdefault(verdict.detail, []).append(verdict.check.family)
    ranked = sorted(reasons.items(), key=lambda item: -len(item[1]))
    said += [
        f"{_checks(len(families))} not applicable ({families_in_words(families)}): {reason}"
        for reason, families in ranked[:_REASONS]
    ]
    if more := sum(len(families) for _, families in ranked[_REASONS:]):
        said.append(f"{_checks(more)} not applicable for other reasons, which the report lists")
    for verdict in outcome.results.verdicts:
        if verdict.flips and verdict.check.pose == IDENTITY:
            lost, gained = len(verdict.flips["new_failures"]), len(verdict.flips["fixed_failures"])
            said.append(
                f"against the last accepted model (incumbent): {lost} new failures, {gained} fixed, "
                f"net {points(verdict.flips['net'])} points (McNemar p {related(verdict.flips['mcnemar_p'])})"
                f"{non_inferiority(verdict)}"
            )
    return said


def _checks(count: int) -> str:
    return "1 check" if count == 1 else f"{count} checks"


def data_in_words(outcome: Outcome) -> str:
    """Return which images were judged; of a run that ended before it read them, which were named."""
    data = outcome.inputs.data
    return (
        f"{data['name']}, {data['split']} split, {data['n']} images"
        if data["n"]
        else str(data["name"])
    )
