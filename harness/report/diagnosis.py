"""The diagnosis of a run: the verdict, facts, the likely cause, and what fails by behavior.

Terminal, Markdown and page show it.
"""

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
    """The checks of a family that do not pass.

    Attributes:
        family: name of the family.
        failing: verdicts of the checks that do not pass, the worst first.
        judged: number of checks of the family that had to be judged.
    """

    family: str
    failing: tuple[Verdict, ...]
    judged: int

    @property
    def counted(self) -> str:
        """Return how many of the checks do not pass, as text."""
        counts: Counter[str] = Counter(verdict.status for verdict in self.failing)
        parts = []
        for status, words in _FAILING.items():
            if counts[status]:
                parts.append(f"{counts[status]} of {self.judged} {words}")
        return ", ".join(parts)


@dataclass(frozen=True)
class Diagnosis:
    """Facts of a run that a reader needs before its details.

    Attributes:
        sentence: the verdict.
        facts: clean accuracy, the top regression, the cause and the next step.
        margins: how near a model that passes is to failing.
        signs: signs that a model that passes is weaker than the reference models.
        remarks: lines by kind: why the run is `inconclusive`, its `note`, what makes it `partial`,
            and the tests that `failed`.
        groups: the families with checks that do not pass, the worst first.
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
    results, findings = outcome.results, outcome.findings
    cause = likely_cause(results.verdicts, findings.input_faults, findings.overview)
    signs_of_weakness = tuple(signs(outcome))
    facts = () if outcome.run.stopped else tuple(_facts(outcome, cause))
    return Diagnosis(
        sentence=_sentence(outcome, weaker=bool(signs_of_weakness)),
        facts=facts,
        margins=tuple(margin_lines(outcome)),
        signs=signs_of_weakness,
        remarks=_remarks(outcome),
        groups=_groups(results.verdicts),
    )


def _groups(verdicts: tuple[Verdict, ...]) -> tuple[Group, ...]:
    """Return the families with checks that do not pass, the worst first."""
    failing: dict[str, list[Verdict]] = {}
    for verdict in worst_first(verdicts):
        if verdict.status in _FAILING:
            failing.setdefault(verdict.check.family, []).append(verdict)

    judged_statuses = {"pass", *_FAILING}
    judged = Counter(
        verdict.check.family for verdict in verdicts if verdict.status in judged_statuses
    )
    return tuple(Group(name, tuple(group), judged[name]) for name, group in failing.items())


def _remarks(outcome: Outcome) -> dict[str, Sequence[str]]:
    """Return remarks by kind: why the run is inconclusive, notes, what is partial, failed tests."""
    results = outcome.results
    inconclusive = [*results.errors]
    notices = [*results.notices, *listed("stress_notes", outcome=outcome)]
    failed_self_checks = _failed_self_checks(outcome)
    if outcome.verdict == "error":
        inconclusive += failed_self_checks
    else:
        notices += failed_self_checks
    return {
        "inconclusive": inconclusive,
        "note": notices,
        "partial": results.omissions,
        "failed": results.failed_tests,
    }


def _failed_self_checks(outcome: Outcome) -> list[str]:
    """Return why self-checks failed, without causes that errors of the run or of checks name."""
    results = outcome.results
    errors_of_checks = tuple(
        verdict.detail
        for verdict in results.verdicts
        if verdict.status == "error" and verdict.detail
    )
    reasons = []
    for check in outcome.findings.unsound:
        is_named = check.reason in results.errors or check.detail.endswith(errors_of_checks)
        if not is_named:
            reasons.append(check.reason)
    return reasons


def _sentence(outcome: Outcome, *, weaker: bool) -> str:
    """Return the verdict as a sentence.

    Args:
        outcome: the run.
        weaker: whether there are signs of a weaker model.
    """
    results = outcome.results
    failing = failing_in_words(results)
    name = candidate_name(outcome) or "The candidate"
    is_partial = outcome.verdict == "partial"

    if outcome.verdict == "error":
        if results.inconclusive and not results.errors:
            return f"No verdict on {name}: these images are too few to tell it from its original."
        return f"No verdict on {name}: this run is inconclusive."
    if is_partial and not failing:
        return f"No verdict yet on {name}: {_without_decision(outcome)}."
    if failing:
        measured = ", as far as it was measured" if is_partial else ""
        if outcome.run.stopped:
            return f"{name} got worse{measured}. The run stopped at the first certain failure."
        return f"{name} got worse{measured}: {failing}."
    return f"{name} {_pass_in_words(outcome, weaker=weaker)}."


def _pass_in_words(outcome: Outcome, *, weaker: bool) -> str:
    results = outcome.results
    judged = results.compared
    signed = ", with signs of a weaker model" if weaker else ""
    if outcome.run.scope:
        return (
            f"passes all {judged} quick checks{signed}; only the full gate can say that it is fit "
            "to ship"
        )

    if results.mostly_informational:
        words = (
            f"passes all {judged} checks that have a threshold{signed}; "
            f"{results.informational} are informational"
        )
    elif weaker:
        words = f"passes all {judged} checks{signed}"
    else:
        words = f"is fit to ship: all {judged} checks pass"
    if results.without_incumbent:
        words += ". No check compares it with an incumbent"
    return words


def _without_decision(outcome: Outcome) -> str:
    undecided = len(outcome.results.open_checks)
    if not undecided:
        judged = outcome.results.compared
        return f"only a part was measured; so far all {judged} checks pass"
    thresholds = "1 threshold" if undecided == 1 else f"{undecided} thresholds"
    return f"the sample is too small to decide on {thresholds} set by hand"


def _facts(outcome: Outcome, cause: Cause | None) -> list[str]:
    """Return clean accuracy, the top regression, and the likely cause of failures.

    A cause that is unclear is left out.
    """
    facts = [_accuracy_in_words(outcome)]
    overview = outcome.findings.overview
    if overview is not None and _is_against_incumbent(overview):
        regression = top_regression(overview)
        if regression:
            facts.append(f"{regression}.")
    if cause is not None:
        if cause.group != UNCLEAR:
            facts.append(f"{cause.sentence} {cause.advice}")
        facts.append(f"Failing checks: {cause.counted}.")
    return [fact for fact in facts if fact]


def _is_against_incumbent(overview: Overview) -> bool:
    return overview.reference is not None and "incumbent" in overview.reference.roles


def _accuracy_in_words(outcome: Outcome) -> str:
    """Return the candidate's clean accuracy beside that of another model; empty if unknown.

    The other model is the incumbent. Without one, it is the mean of the reference models, because a
    baseline has another recipe.
    """
    clean = _clean_verdict(outcome)
    overview = outcome.findings.overview
    if overview is None:
        if clean is None:
            return ""
        return f"Clean accuracy {clean.unit.format(clean.value or 0.0)}."

    candidate, other = overview.models[0], overview.reference
    words = f"Clean accuracy {Unit.SHARE.format(candidate.accuracy.value)}"
    reference_models = ""
    has_reference_models = clean is not None and clean.check.panel is not None
    if clean is not None and has_reference_models and not _is_against_incumbent(overview):
        reference_models = reference(clean)
    if reference_models:
        words += f", reference models {reference_models}"
    elif other is not None:
        gap = points(candidate.accuracy.value - other.accuracy.value)
        words += f", {other.name} {Unit.SHARE.format(other.accuracy.value)} ({gap} points)"
    if {"candidate", "incumbent"} <= set(candidate.roles):
        words += "; the candidate is the incumbent itself"
    return f"{words}."


def _clean_verdict(outcome: Outcome) -> Verdict | None:
    """Return the verdict on the candidate's clean accuracy, the last one if there are several."""
    clean = None
    for verdict in of_candidate(outcome.results.verdicts, ACCURACY):
        check = verdict.check
        if check.family == "clean" and check.pose == IDENTITY and check.class_name is None:
            clean = verdict
    return clean


def top_regression(overview: Overview) -> str:
    """Return which classes lost most, and how accuracy under pose fell; empty if not significant.

    A class is named if it has more errors than the other model's by 1.96 standard deviations of two
    Poisson counts. Accuracy under pose is named if the 95% intervals do not overlap.
    """
    other = overview.reference
    if other is None:
        return ""
    classes = _lost_classes(overview, other)
    now, before = overview.models[0].corners, other.corners
    if now is None or before is None or now.high >= before.low:
        return classes

    values = f"{Unit.SHARE.format(now.value)}, {other.name} {Unit.SHARE.format(before.value)}"
    corners = (
        f"At the corners of {overview.augmentation.in_words()}, accuracy is {values} "
        f"({points(now.value - before.value)} points)"
    )
    return f"{classes}. {corners}" if classes else corners


def conclusion(overview: Overview, flips: Mapping[str, Any]) -> str:
    """Return a comparison of two models in a sentence.

    It has the new and the fixed errors, their p-value, and the top regression.

    Args:
        overview: the two models side by side.
        flips: the changed predictions from the second model to the first, as `Flips.as_json`.
    """
    new, fixed = len(flips["new_failures"]), len(flips["fixed_failures"])
    words = f"{new:,} new and {fixed:,} fixed errors, p {related(flips['mcnemar_p'])}"
    regression = top_regression(overview)
    return f"{words}; {regression}." if regression else f"{words}."


def _lost_classes(overview: Overview, other: ModelOverview) -> str:
    """Return as text the classes that are significantly worse than the other model's."""
    confusion = np.array(overview.models[0].confusion)
    confusion_before = np.array(other.confusion)
    errors = confusion.sum(axis=1) - np.diag(confusion)
    errors_before = confusion_before.sum(axis=1) - np.diag(confusion_before)
    images = np.maximum(confusion.sum(axis=1), 1)
    images_before = np.maximum(confusion_before.sum(axis=1), 1)
    lost = errors / images - errors_before / images_before

    # Rounded, so that equal losses keep the order of the classes.
    order = np.argsort(-lost.round(9), kind="stable")
    worse = []
    for label in order:
        is_significant = significantly_more(int(errors[label]), int(errors_before[label]))
        if lost[label] > 0 and is_significant:
            worse.append(label)
    missing = [label for label in worse if overview.classes[label] in overview.never_predicted]
    if missing:
        return _missing_classes(overview, missing, others=len(worse) - len(missing), lost=lost)

    named = worse[:_CLASSES]
    if not named:
        return ""
    gaps = [f"{overview.classes[label]} {points(-lost[label])}" for label in named]
    further = np.maximum(confusion - confusion_before, 0)
    targets = [_target_in_words(overview, label, further[label]) for label in named]
    more = f" ({len(worse) - len(named)} more classes worse)" if len(worse) > len(named) else ""
    if len(set(targets)) == 1:
        return f"{' and '.join(gaps)} points{targets[0]}{more}"
    parts = [f"{gap} points{target}" for gap, target in zip(gaps, targets, strict=True)]
    return f"{', and '.join(parts)}{more}"


def _target_in_words(overview: Overview, label: int, further: np.ndarray) -> str:
    """Return the class that most further images of a class are predicted as, as text, if any.

    Args:
        overview: the models.
        label: position of the true class.
        further: further predictions as each class, (C,).
    """
    errors = further.copy()
    errors[label] = 0
    target = int(errors.argmax())
    if errors[target] <= _MOSTLY * errors.sum():
        return ""
    return f", mostly predicted as {overview.classes[target]}"


def _missing_classes(
    overview: Overview, missing: Sequence[int], *, others: int, lost: np.ndarray
) -> str:
    """Return which classes are never predicted, and how many `others` are significantly worse.

    The others are not named: what they lose follows from the missing classes or is small beside it.
    """
    gaps = [f"{overview.classes[label]} ({points(-lost[label])} points)" for label in missing]
    verb = "is" if len(missing) == 1 else "are"
    plural = "es" if others > 1 else ""
    more = f" ({others} more class{plural} worse)" if others else ""
    return f"{some_of(gaps)} {verb} never predicted{more}"


def notes(outcome: Outcome) -> list[str]:
    """Return what bears on the verdict.

    These are thresholds by hand, informational checks, self-checks and losses against the
    incumbent.
    """
    results, findings = outcome.results, outcome.findings
    lines = [f"thresholds: {outcome.inputs.provenance}", *results.remarks]
    for part in outcome.parts.values():
        lines += part.summary_lines
    lines += _notes_on_hand_thresholds(results.verdicts)

    statuses = {verdict.status for verdict in results.verdicts}
    if statuses & {"informational", "not_applicable"}:
        lines.append(counts_in_words(results))

    self_checks = self_checks_in_words(findings)
    if self_checks:
        lines.append(self_checks)
    for check in findings.self_checks:
        if check.cannot_notice:
            lines.append(f"self-check {check.name}: {check.detail}")

    lines += _notes_on_not_applicable(results.verdicts)
    lines += _notes_on_incumbent(results.verdicts)
    return lines


def _notes_on_hand_thresholds(verdicts: Sequence[Verdict]) -> list[str]:
    by_hand = [verdict.check for verdict in verdicts if verdict.check.by_hand]
    thresholds = [check.id for check in by_hand if not check.is_tolerance]
    tolerances = [check.id for check in by_hand if check.is_tolerance]
    lines = []
    if thresholds:
        lines.append(f"{len(thresholds)} of the thresholds set by hand: {some_of(thresholds)}")
    if tolerances:
        lines.append(
            f"{len(tolerances)} of the thresholds are tolerances set by hand: {some_of(tolerances)}"
        )
    return lines


def _notes_on_not_applicable(verdicts: Sequence[Verdict]) -> list[str]:
    families_by_reason: dict[str, list[str]] = {}
    for verdict in verdicts:
        if verdict.status == "not_applicable":
            families_by_reason.setdefault(verdict.detail, []).append(verdict.check.family)
    ranked = sorted(families_by_reason.items(), key=lambda item: -len(item[1]))

    lines = []
    for reason, families in ranked[:_REASONS]:
        names = families_in_words(families)
        lines.append(f"{_checks(len(families))} not applicable ({names}): {reason}")
    more = sum(len(families) for _, families in ranked[_REASONS:])
    if more:
        lines.append(f"{_checks(more)} not applicable for other reasons, which the report lists")
    return lines


def _notes_on_incumbent(verdicts: Sequence[Verdict]) -> list[str]:
    lines = []
    for verdict in verdicts:
        flips = verdict.flips
        if not flips or verdict.check.pose != IDENTITY:
            continue
        new, fixed = len(flips["new_failures"]), len(flips["fixed_failures"])
        lines.append(
            f"against the last accepted model (incumbent): {new} new failures, {fixed} fixed, "
            f"net {points(flips['net'])} points (McNemar p {related(flips['mcnemar_p'])})"
            f"{non_inferiority(verdict)}"
        )
    return lines


def _checks(count: int) -> str:
    return "1 check" if count == 1 else f"{count} checks"


def data_in_words(outcome: Outcome) -> str:
    """Return which images were judged, or which were named if the run ended before it read them."""
    data = outcome.inputs.data
    if not data["n"]:
        return str(data["name"])
    return f"{data['name']}, {data['split']} split, {data['n']} images"
