"""Verdicts as text: value and threshold, the distance between them, a line for a failing test."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from harness.checks.roles import ROLES
from harness.measures import METRICS, Unit, never_judged
from harness.measures.changed_predictions import OF_ORIGINAL

if TYPE_CHECKING:
    from harness.checks import Verdict

_ROUNDING = 1e-6
_FEW = 10
"""Number of images up to which a distance from the threshold is in images; above, in points."""


def numbers(verdict: Verdict, *, decimals: int | None = None) -> tuple[str, str]:
    """Return value and threshold with enough digits to tell them apart, at least `decimals`.

    A missing one is empty. The threshold of a count of images is the last whole number that holds.
    The value of a run that stops is a bound.
    """
    value, limit, unit = verdict.value, verdict.threshold, verdict.unit
    if value is None:
        return "", ""
    if limit is None:
        return unit.format(value, decimals=decimals), ""
    if unit is Unit.IMAGES and value % 1 == 0:
        limit = math.floor(limit) if verdict.check.direction == "at_most" else math.ceil(limit)

    shown, required = unit.told_apart(value, limit, plain=decimals)
    if verdict.stopped:
        shown = f"at most {shown}"
    return shown, required


def missed(verdict: Verdict) -> str:
    """Return the distance of a failing check from its threshold, such as 38.2 points.

    A small distance is a number of images, such as 1 image of 10,000.
    """
    value, threshold = verdict.value, verdict.threshold
    if verdict.passed or verdict.status == "inconclusive" or value is None or threshold is None:
        return ""
    gap = abs(value - threshold)
    out_of = verdict.stopped or verdict.out_of
    images = _missed_images(verdict, gap, value * out_of, out_of)
    if images is not None:
        least = "at least " if verdict.stopped else ""
        plural = "" if images == 1 else "s"
        return f"{least}{images:,} image{plural} of {out_of:,}"
    unit = Unit.DIFFERENCE if verdict.unit is Unit.SHARE else verdict.unit
    return unit.told_apart(gap, 0.0)[0].removeprefix("+")


def _missed_images(verdict: Verdict, gap: float, counted: float, out_of: int) -> int | None:
    """Return a distance from the threshold as a number of images; None if it is no small number."""
    if verdict.unit is Unit.IMAGES:
        return math.ceil(gap - _ROUNDING)
    if verdict.unit is not Unit.SHARE or abs(counted - round(counted)) >= _ROUNDING:
        return None
    images = math.ceil(gap * out_of - _ROUNDING)
    return images if 0 < images <= _FEW else None


def excused(verdict: Verdict) -> str:
    """Return why a check passes although its value lies beyond the threshold; else empty."""
    if verdict.status != "pass" or verdict.value is None or verdict.threshold is None:
        return ""
    if verdict.check.holds(verdict.value, verdict.threshold):
        return ""
    if verdict.check.significance is None:
        return "the 95% interval reaches the threshold"
    p = f"p = {verdict.flips['mcnemar_p']:.2g}, " if verdict.flips else ""
    return f"not significant ({p}fails below {verdict.check.significance:g})"


def _images(verdict: Verdict) -> str:
    """Return the number of images behind a value, and that of all measured images if larger."""
    metric = METRICS.get(verdict.metric)
    # The n of such a count is the size of the largest class, which says nothing of the worst class.
    of_worst_class = verdict.unit is Unit.IMAGES and metric is not None and metric.about_one
    if of_worst_class or verdict.out_of == verdict.n:
        return f"{verdict.out_of}"
    return f"{verdict.out_of} of {verdict.n}"


def explained(verdict: Verdict, report: str = "") -> str:
    """Return one line with value, threshold, number of images and interval.

    `report` is the page with pictures, which the line then names.
    """
    check = verdict.check
    if verdict.value is None:
        return f"{check.id}: {verdict.status.replace('_', ' ')}: {verdict.detail}"

    value, required = numbers(verdict, decimals=4)
    metric = verdict.metric.replace("_", " ")
    facts = [_measured(verdict), _reference(verdict)]
    if check.by_hand and verdict.threshold is not None:
        limit = "tolerance" if check.is_tolerance else "threshold"
        facts.append(f"{limit} set by hand")
    relation = _relation(verdict, required)
    in_parentheses = "; ".join(filter(None, facts))
    parts = [f"{check.id}: {metric} {value} {relation} ({in_parentheses})", verdict.detail]
    if ROLES[check.role].precondition and verdict.status == "error":
        parts.append(f"the {check.role} fails its own check, so no model can be compared with it")
    if report:
        parts.append(f"pictures in {report}#{check.id}")
    return "; ".join(filter(None, parts))


def _relation(verdict: Verdict, required: str) -> str:
    """Return how the value relates to the threshold `required`, such as `< threshold 0.9`."""
    check = verdict.check
    if verdict.threshold is None:
        return f"(informational: {_why_informational(verdict)})"
    if verdict.is_open:
        relation = (
            f"is inconclusive: threshold {required} lies within the 95% interval of this sample"
        )
        if check.significance is not None:
            relation += ", or the change is not significant"
        return relation
    if verdict.status == "inconclusive":
        return f"is inconclusive at tolerance {required}"
    if excused(verdict):
        reason = "within the 95% interval on other images"
        if check.significance:
            reason = "not significant"
        return f"beyond threshold {required}, {reason}"

    holds, fails = ("<=", ">") if check.direction == "at_most" else (">=", "<")
    sign = holds if verdict.status == "pass" else fails
    return f"{sign} threshold {required}"


def _why_informational(verdict: Verdict) -> str:
    check = verdict.check
    reason = check.informational or never_judged(verdict.metric)
    if reason:
        return reason
    if check.role != "candidate":
        return "no threshold"
    option = f"--family {check.family}"
    if verdict.metric in OF_ORIGINAL:
        option = "--convert COMMAND"
    return f"no threshold yet, `stress-harness calibrate {option}` makes one"


def _measured(verdict: Verdict) -> str:
    """Return the number of images and the interval behind a value."""
    if verdict.counted == 0:
        return "no image counts"
    if verdict.stopped and verdict.value is not None:
        errors = round((1 - verdict.value) * verdict.stopped)
        images = f"{verdict.n:,} of {verdict.stopped:,} images"
        return f"at least {errors:,} errors, after {images}, hardest first"
    low, high = verdict.interval or (math.nan, math.nan)
    format_ = verdict.unit.format
    interval = f"{format_(low, decimals=4)} to {format_(high, decimals=4)}"
    return f"n={_images(verdict)}, 95% CI {interval}"


def _reference(verdict: Verdict) -> str:
    """Return mean and standard deviation of the reference models; empty without them."""
    reference = verdict.check.reference
    if reference is None or reference.mean is None or reference.std is None:
        return ""
    mean = verdict.unit.format(reference.mean, decimals=4)
    std = verdict.unit.format(reference.std, decimals=4)
    if verdict.unit is Unit.IMAGES:
        std = f"{reference.std:.1f}"
    models = "reference models"
    if reference.reference_models:
        plural = "" if reference.reference_models == 1 else "s"
        models = f"{reference.reference_models} reference model{plural}"
    if reference.conversions:
        models = f"conversions of {models}"
    return f"{models} {mean} ± {std}"
