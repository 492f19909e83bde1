"""The headline of a report: the verdict as a sentence, clean accuracy, the top regression, and the likely cause."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from harness.measures import Unit
from harness.measures.accuracy import ACCURACY
from harness.measures.statistics import related
from harness.perturb import IDENTITY
from harness.report.causes import UNCLEAR, likely_cause
from harness.report.closest import signs
from harness.report.wording import candidate_name, of_candidate, points, reference, significantly_more

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.run.outcome import Outcome
    from harness.run.overview import ModelOverview, Overview

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
    known = {
        (one.check.family, one.check.pose, one.check.class_name): one
        for one in of_candidate(outcome.verdicts, ACCURACY)
    }
    clean = known.get(("clean", IDENTITY, None))
    if (overview := outcome.overview) is None:
        accuracy = "" if clean is None else f"Clean accuracy {clean.unit.format(clean.value or 0.0)}."
        return [*filter(None, [accuracy]), *said]
    mine, other = overview.models[0], overview.reference
    line, regression = f"Clean accuracy {Unit.SHARE.format(mine.accuracy.value)}", ""
    shipped = other is not None and "incumbent" in other.roles
    usual = reference(clean) if clean is not None and clean.check.panel is not None and not shipped else ""
    if usual:
        line += f", reference models {usual}"
    elif other is not None:
        theirs = other.accuracy
        gap = points(mine.accuracy.value - theirs.value)
        line += f", {other.name} {Unit.SHARE.format(theirs.value)} ({gap} points)"
    if {"candidate", "incumbent"} <= set(mine.roles):
        line += "; the candidate is the incumbent itself"
    if shipped and (regression := top_regression(overview)):
        regression += "."
    return [f"{line}.", *filter(None, [regression]), *said]


def top_regression(overview: Overview) -> str:
    """Return which classes lost most, and how accuracy under pose fell; empty where neither is significant.

    A class is named if it has more errors than the other model's by 1.96 standard deviations of two Poisson counts.
    """
    if (reference := overview.reference) is None:
        return ""
    return ". ".join(filter(None, (_classes(overview, reference), _posed(overview.models[0], reference))))


def conclusion(overview: Overview, flips: Mapping[str, Any]) -> str:
    """Return a comparison of two models in a sentence: new and fixed errors, their p, and the top regression.

    `flips` as in `Flips.as_json`, from the second model to the first.
    """
    new, fixed = len(flips["new_failures"]), len(flips["fixed_failures"])
    found = f"{new:,} new and {fixed:,} fixed errors, p {related(flips['mcnemar_p'])}"
    return f"{'; '.join(filter(None, (found, top_regression(overview))))}."


def _classes(overview: Overview, reference: ModelOverview) -> str:
    counts, before = (np.array(model.confusion) for model in (overview.models[0], reference))
    wrong, was = (found.sum(axis=1) - np.diag(found) for found in (counts, before))
    lost = wrong / np.maximum(counts.sum(axis=1), 1) - was / np.maximum(before.sum(axis=1), 1)
    order = np.argsort(-lost.round(9), kind="stable")
    worse = [at for at in order if lost[at] > 0 and significantly_more(int(wrong[at]), int(was[at]))]
    named = worse[:_CLASSES]
    if not named:
        return ""
    gaps = [f"{overview.classes[at]} {points(-lost[at])}" for at in named]
    targets = [_mostly(overview, counts[at] - before[at], at) for at in named]
    more = f" ({len(worse) - len(named)} more classes worse)" if len(worse) > len(named) else ""
    if len({*targets}) == 1:
        return f"{' and '.join(gaps)} points{targets[0]}{more}"
    return ", and ".join(f"{gap} points{target}" for gap, target in zip(gaps, targets, strict=True)) + more


def _mostly(overview: Overview, rise: np.ndarray, true: int) -> str:
    """Say which class most of the further errors of one class are predicted as; empty without one."""
    further = np.maximum(rise, 0)
    further[true] = 0
    at = int(further.argmax())
    return f", mostly predicted as {overview.classes[at]}" if further[at] > _MOSTLY * further.sum() else ""


def _posed(model: ModelOverview, reference: ModelOverview) -> str:
    mine, theirs = model.corners, reference.corners
    if mine is None or theirs is None or mine.high >= theirs.low:  # Intervals of 95% that are not apart.
        return ""
    return (
        f"Rotated and translated by up to 10° and 2 px, accuracy is {Unit.SHARE.format(mine.value)}, "
        f"{reference.name} {Unit.SHARE.format(theirs.value)} ({points(mine.value - theirs.value)} points)"
    )
