"""The headline of a report: the verdict as a sentence, clean accuracy, the top regression, and the likely cause."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from harness.measures import Unit
from harness.measures.statistics import related
from harness.perturb import IDENTITY
from harness.report.causes import UNCLEAR, likely_cause
from harness.report.closest import signs
from harness.report.wording import candidate_name, points, reference, significantly_more
from harness.run.overview import Clean, Moved

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.checks import Verdict
    from harness.run.outcome import Outcome
    from harness.run.overview import ModelOverview, Overview, Rate

_CLASSES = 2
"""Classes that are named."""
_MOSTLY = 0.5
"""Share of the further errors of a class from which on they are mostly predicted as one class."""


def sentence(outcome: Outcome) -> str:
    """Return the verdict as a plain sentence that names the candidate."""
    judged = sum(verdict.judged for verdict in outcome.verdicts)
    failed = len(outcome.failed) + len(outcome.failed_tests)
    name = candidate_name(outcome) or "The candidate"
    if outcome.verdict == "error":
        if outcome.inconclusive and not outcome.errors:
            return f"No verdict on {name}: these images are too few to tell it from its original."
        return f"No verdict on {name}: this run is inconclusive."
    if outcome.verdict == "partial" and not failed:
        return f"No verdict yet on {name}: only a part was measured; so far all {judged} checks pass."
    if failed:
        measured = ", as far as it was measured" if outcome.verdict == "partial" else ""
        return f"{name} got worse{measured}: {failed} of {judged} checks fail."
    weaker = ", with signs of a weaker model" if signs(outcome) else ""
    if outcome.scope:
        return f"{name} passes all {judged} quick checks{weaker}; only the full gate can say that it is fit to ship."
    alone = ". No check compares it with an incumbent" if outcome.without_incumbent else ""
    fit = f"passes all {judged} checks{weaker}" if weaker else f"is fit to ship: all {judged} checks pass"
    if outcome.mostly_informational:
        fit = f"passes all {judged} checks that have a threshold{weaker}; {outcome.informational} are informational"
    return f"{name} {fit}{alone}."


def headline_lines(outcome: Outcome) -> list[str]:
    """Return clean accuracy beside the other model's, the top regression, and the likely cause of failures.

    The other model is the incumbent. Without one, accuracy stands beside the reference models', since a baseline has
    another recipe. A cause that is unclear is left out.
    """
    cause = likely_cause(outcome.verdicts, outcome.input_faults)
    said = [] if cause is None or cause.group == UNCLEAR else [f"{cause.sentence} {cause.advice}"]
    said += [] if cause is None else [f"Failing checks: {cause.counted}."]
    if (overview := outcome.overview) is None:
        return [*_clean_of_checks(outcome), *said]
    shipped = overview.reference is not None and "incumbent" in overview.reference.roles
    regression = top_regression(overview) if shipped else ""
    beside = "" if shipped else _reference_models(outcome)
    return [accuracy_line(overview, beside=beside), *([f"{regression}."] if regression else []), *said]


def _clean_of_checks(outcome: Outcome) -> list[str]:
    """Return clean accuracy as a check measured it, for a run without an overview."""
    found = _clean_check(outcome)
    return [] if found is None else [f"Clean accuracy {found.unit.format(found.value or 0.0)}."]


def _clean_check(outcome: Outcome) -> Verdict | None:
    for verdict in outcome.verdicts:
        check = verdict.check
        if (check.role, check.family, verdict.metric) != ("candidate", "clean", "accuracy") or verdict.value is None:
            continue
        if check.pose == IDENTITY and check.class_name is None:
            return verdict
    return None


def _reference_models(outcome: Outcome) -> str:
    """Return the clean accuracy of the reference models, as `reference models 92.6% ± 0.2`; empty if not known."""
    found = _clean_check(outcome)
    known = "" if found is None or found.check.panel is None else reference(found)
    return f"reference models {known}" if known else ""


def accuracy_line(overview: Overview, *, beside: str = "") -> str:
    """Return the clean accuracy of the first model beside that of the one that it is compared with, or `beside`."""
    mine, other = overview.models[0], overview.reference
    line = f"Clean accuracy {Unit.SHARE.format(mine[Clean].accuracy.value)}"
    if beside:
        line += f", {beside}"
    elif other is not None:
        theirs = other[Clean].accuracy
        gap = points(mine[Clean].accuracy.value - theirs.value)
        line += f", {other.name} {Unit.SHARE.format(theirs.value)} ({gap} points)"
    also = "; the candidate is the incumbent itself" if {"candidate", "incumbent"} <= set(mine.roles) else ""
    return f"{line}{also}."


def top_regression(overview: Overview) -> str:
    """Return which classes lost most, or how accuracy under pose fell; empty where neither is significant.

    A class is named if it has more errors than the other model's by 1.96 standard deviations of two Poisson counts.
    """
    if (reference := overview.reference) is None:
        return ""
    return _classes(overview, reference) or _posed(overview.models[0], reference)


def conclusion(overview: Overview, flips: Mapping[str, Any]) -> str:
    """Return a comparison of two models in a sentence: new and fixed errors, their p, and the top regression.

    `flips` as in `Flips.as_json`, from the second model to the first.
    """
    new, fixed = len(flips["new_failures"]), len(flips["fixed_failures"])
    found = f"{new:,} new and {fixed:,} fixed errors, p {related(flips['mcnemar_p'])}"
    return f"{'; '.join(filter(None, (found, top_regression(overview))))}."


def _classes(overview: Overview, reference: ModelOverview) -> str:
    counts, before = (np.array(model[Clean].confusion) for model in (overview.models[0], reference))
    wrong, was = (found.sum(axis=1) - np.diag(found) for found in (counts, before))
    lost = wrong / np.maximum(counts.sum(axis=1), 1) - was / np.maximum(before.sum(axis=1), 1)
    order = np.argsort(-lost.round(9), kind="stable")
    worse = [at for at in order if lost[at] > 0 and significantly_more(int(wrong[at]), int(was[at]))]
    named = worse[:_CLASSES]
    if not named:
        return ""
    gaps = [f"{overview.classes[at]} {points(-lost[at])}" for at in named]
    targets = [_mostly(counts[at] - before[at], at) for at in named]
    more = f" ({len(worse) - len(named)} more classes worse)" if len(worse) > len(named) else ""
    if len({*targets}) == 1:
        said = f"{' and '.join(gaps)} points"
        return f"{said}{_predicted(overview, targets[0])}{more}"
    said = ", and ".join(f"{gap} points{_predicted(overview, at)}" for gap, at in zip(gaps, targets, strict=True))
    return f"{said}{more}"


def _mostly(rise: np.ndarray, true: int) -> int | None:
    """Return the class that most of the further errors of one class are predicted as; None without one."""
    further = np.maximum(rise, 0)
    further[true] = 0
    at = int(further.argmax())
    return at if further[at] > _MOSTLY * further.sum() else None


def _predicted(overview: Overview, at: int | None) -> str:
    return "" if at is None else f", mostly predicted as {overview.classes[at]}"


def _posed(model: ModelOverview, reference: ModelOverview) -> str:
    mine, theirs = model[Moved].corners, reference[Moved].corners
    if mine is None or theirs is None or not _below(mine, theirs):
        return ""
    return (
        f"Rotated and translated by up to 10° and 2 px, accuracy is {Unit.SHARE.format(mine.value)}, "
        f"{reference.name} {Unit.SHARE.format(theirs.value)} ({points(mine.value - theirs.value)} points)"
    )


def _below(mine: Rate, theirs: Rate) -> bool:
    """Return whether two intervals of 95% are apart, the first below the second."""
    return mine.high < theirs.low
