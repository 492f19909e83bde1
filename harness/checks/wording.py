"""Verdicts as text: value and threshold, the distance between them, and one line for a failing test."""

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
    """Return value and threshold with enough digits to tell them apart, at least `decimals`; empty for a missing one.

    The threshold of a count of images is the last whole number that holds. The value of a run that stops is a bound.
    """
    value, limit, unit = verdict.value, verdict.threshold, verdict.unit
    if value is None or limit is None:
        return "" if value is None else unit.format(value, decimals=decimals), ""
    if unit is Unit.IMAGES and not value % 1:
        limit = math.floor(limit) if verdict.check.direction == "at_most" else math.ceil(limit)
    told, required = unit.told_apart(value, limit, plain=decimals)
    return f"at most {told}" if verdict.stopped else told, required


def missed(verdict: Verdict) -> str:
    """Return the distance of a failing check from its threshold, such as 38.2 points or 1 image of 10,000."""
    value, threshold, out_of = verdict.value, verdict.threshold, verdict.stopped or verdict.out_of
    if verdict.passed or verdict.status == "inconclusive" or value is None or threshold is None:
        return ""
    gap, counted = abs(value - threshold), value * out_of
    of_images = verdict.unit is Unit.IMAGES
    counts = of_images or (verdict.unit is Unit.SHARE and abs(counted - round(counted)) < _ROUNDING)
    images = math.ceil(gap * (1 if of_images else out_of) - _ROUNDING) if counts else 0
    if of_images or 0 < images <= _FEW:
        least = "at least " if verdict.stopped else ""
        return f"{least}{images:,} image{'' if images == 1 else 's'} of {out_of:,}"
    unit = Unit.DIFFERENCE if verdict.unit is Unit.SHARE else verdict.unit
    return unit.told_apart(gap, 0.0)[0].removeprefix("+")


def excused(verdict: Verdict) -> str:
    """Return why a check passes although its value lies beyond the threshold; else an empty text."""
    if verdict.status != "pass" or verdict.value is None or verdict.threshold is None:
        return ""
    if verdict.check.holds(verdict.value, verdict.threshold):
        return ""
    if verdict.check.significance is None:
        return "the 95% interval reaches the threshold"
    p = f"p = {verdict.flips['mcnemar_p']:.2g}, " if verdict.flips else ""
    return f"not significant ({p}fails below {verdict.check.significance:g})"


def _images(verdict: Verdict) -> str:
    """Return the number of images behind a value, and of how many measured ones if these are more."""
    metric = METRICS.get(verdict.metric)
    # Such a count has the size of the largest class as its n, which no reader looks for beside the worst class.
    of_worst_class = verdict.unit is Unit.IMAGES and metric is not None and metric.about_one
    if of_worst_class or verdict.out_of == verdict.n:
        return f"{verdict.out_of}"
    return f"{verdict.out_of} of {verdict.n}"


def explained(verdict: Verdict, report: str = "") -> str:
    """Return one line with value, threshold, number of images and interval; `report` is the page with pictures."""
    check, metric = verdict.check, verdict.metric.replace("_", " ")
    if verdict.value is None:
        return f"{check.id}: {verdict.status.replace('_', ' ')}: {verdict.detail}"
    value, must_be = numbers(verdict, decimals=4)
    beyond, held = (">", "<=") if check.direction == "at_most" else ("<", ">=")
    if verdict.threshold is None:
        how = "--convert COMMAND" if verdict.metric in OF_ORIGINAL else f"--family {check.family}"
        more = (
            f" yet, `stress-harness calibrate {how}` makes one" if check.role == "candidate" else ""
        )
        why = check.informational or never_judged(verdict.metric) or f"no threshold{more}"
        relation = f"(informational: {why})"
    elif verdict.is_open:
        relation = (
            f"is inconclusive: threshold {must_be} lies within the 95% interval of this sample"
        )
        if check.significance is not None:
            relation += ", or the change is not significant"
    elif verdict.status == "inconclusive":
        relation = f"is inconclusive at tolerance {must_be}"
    elif excused(verdict):
        why = "not significant" if check.significance else "within the 95% interval on other images"
        relation = f"beyond threshold {must_be}, {why}"
    else:
        relation = f"{held if verdict.status == 'pass' else beyond} threshold {must_be}"

    def number(each: float) -> str:
        return verdict.unit.format(each, decimals=4)

    low, high = verdict.interval or (math.nan, math.nan)
    facts = f"n={_images(verdict)}, 95% CI {number(low)} to {number(high)}"
    if verdict.counted == 0:
        facts = "no image counts"
    elif verdict.stopped:
        errors = round((1 - verdict.value) * verdict.stopped)
        facts = f"at least {errors:,} errors, after {verdict.n:,} of {verdict.stopped:,} images, hardest first"
    reference = check.reference
    if reference and reference.mean is not None and reference.std is not None:
        count = reference.reference_models
        spread = f"{reference.std:.1f}" if verdict.unit is Unit.IMAGES else number(reference.std)
        models = (
            f"{count} reference model{'' if count == 1 else 's'}" if count else "reference models"
        )
        whose = f"conversions of {models}" if reference.conversions else models
        facts += f"; {whose} {number(reference.mean)} ± {spread}"
    if check.by_hand and verdict.threshold is not None:
        facts += f"; {'tolerance' if check.is_tolerance else 'threshold'} set by hand"
    parts = [f"{check.id}: {metric} {value} {relation} ({facts})", verdict.detail]
    if ROLES[check.role].precondition and verdict.status == "error":
        parts.append(f"the {check.role} fails its own check, so no model can be compared with it")
    parts.append(f"pictures in {report}#{check.id}" if report else "")
    return "; ".join(part for part in parts if part)
