"""Rules of likely causes that are about classes: one is never predicted, or two are confused."""

from __future__ import annotations

from harness.base.errors import some_of
from harness.measures import METRICS
from harness.report.cause_evidence import (
    APART,
    ATTENTION_AREA,
    CARRY,
    CLASS_AREA,
    CLEAN,
    CONFIDENCE_AREA,
    LEAST_CLASSES,
    TWO,
    CauseEvidence,
    is_of_class,
)
from harness.report.signs import FAR, deviation
from harness.report.wording import points

_OF_ONE_CLASS = {CLEAN, CLASS_AREA, CONFIDENCE_AREA, ATTENTION_AREA}
"""Areas that fail if one class is confused on clean images."""
_FAR_CLASS = 4.0
"""Smallest deviation of the accuracy of one class that is the cause.

One of 60 healthy controls has such a class.
"""
_FAR_BETTER = 3.0
"""Deviation of a model that expects other pixels: it is better under two corruptions."""


def never_predicted(evidence: CauseEvidence) -> str:
    """Name the classes that are never predicted, if they carry the loss of accuracy.

    Most other classes must be predicted.
    """
    missing = evidence.never_predicted
    if not missing or len(missing) > len(evidence.predicted):
        return ""
    lost_by_missing = sum(evidence.lost.get(name, 0.0) for name in missing)
    if lost_by_missing < CARRY * sum(evidence.lost.values()):
        return ""
    return f"{missing_in_words(evidence)}."


def missing_in_words(evidence: CauseEvidence) -> str:
    """Return which classes are never predicted, as text."""
    missing = evidence.never_predicted
    verb = "is" if len(missing) == 1 else "are"
    return f"{some_of([*missing])} {verb} never predicted (of {sum(missing.values()):,} images)"


def by_margin(evidence: CauseEvidence) -> str:
    """Compare the largest deviation of each class with that of the accuracy on all images."""
    by_class: dict[str, float] = {}
    largest_miss = 0.0
    for failing in evidence.failing:
        check = failing.verdict.check
        metric = METRICS.get(failing.verdict.metric)
        if not check.class_name or check.family == "pairs":
            continue
        if metric and metric.about_one:
            continue
        name = check.class_name
        by_class[name] = max(by_class.get(name, 0.0), failing.deviation)
        largest_miss = max(largest_miss, failing.miss)

    largest = max(by_class.values(), default=0.0)
    others = evidence.accuracy_of_all()
    standing_apart = [name for name, size in by_class.items() if size >= largest / APART]
    if len(standing_apart) > TWO or largest_miss < FAR or largest < APART * others:
        return ""

    rest = "and accuracy on all classes passes"
    if others:
        rest = f"accuracy on all classes by at most {others:.1f}"
    names = " and ".join(standing_apart)
    return (
        f"Checks of {names} deviate by up to {largest:.1f} standard deviations of reference "
        f"models, {rest}."
    )


def by_class(evidence: CauseEvidence) -> str:
    """Compare the accuracies of classes where accuracy, geometry and corruptions hold.

    Wrong labels of one class cost confidence first; the loss of its accuracy stays within the
    threshold.
    """
    if not evidence.clean_holds or evidence.areas - _OF_ONE_CLASS:
        return ""
    deviations = {
        verdict.check.class_name or "": deviation(verdict) or 0.0
        for verdict in evidence.verdicts
        if is_of_class(verdict)
    }
    if len(deviations) < LEAST_CLASSES:
        return ""
    name, second, *_ = sorted(deviations, key=lambda name: -deviations[name])
    if deviations[name] < _FAR_CLASS or deviations[name] < APART * deviations[second]:
        return ""
    return (
        f"{name} lies {deviations[name]:.1f} standard deviations of reference models below them, "
        f"any other class at most {max(deviations[second], 0.0):.1f}."
    )


def by_points(evidence: CauseEvidence) -> str:
    """Compare the points that classes lose: one or two carry the loss, and no third class fails."""
    names, lost = evidence.carrying, evidence.lost
    of_classes = [failing.verdict for failing in evidence.failing if is_of_class(failing.verdict)]
    failing_classes = {verdict.check.class_name for verdict in of_classes}
    if not names or failing_classes - {*names, None}:
        return ""
    if len(evidence.better(_FAR_BETTER)) >= TWO or not evidence.areas & {CLEAN, CLASS_AREA}:
        return ""
    gaps = " and ".join(f"{name} {points(-lost[name])} points" for name in names if lost[name])
    share = sum(lost[name] for name in names) / sum(lost.values())
    return f"{gaps} against reference models: {share:.0%} of what all classes lose."


def by_swap(evidence: CauseEvidence) -> str:
    """Compare confusions with the incumbent's.

    Where two classes are mostly swapped, other errors follow from that.
    """
    swap = evidence.swap
    if swap is None:
        return ""
    shares = " and ".join(
        f"{now:.0%} of {name} (incumbent {before:.0%})" for name, now, before in swap.ways
    )
    first, second = (name for name, _, _ in swap.ways)
    return (
        f"{first} and {second} are predicted as each other, {shares}: {swap.share:.0%} of the new "
        "errors."
    )
