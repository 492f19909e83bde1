"""Words of the report: cases and numbers, and where the model looks, and the meaning of each term."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from harness.base.errors import printable
from harness.checks.families import FAMILIES
from harness.measures import Unit
from harness.measures.localisation import ATTENTION_LIFT, ATTENTION_RATIO
from harness.measures.statistics import Z95
from harness.perturb import IDENTITY
from harness.report.page import Section, render

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.checks import Verdict
    from harness.measures import Metric
    from harness.run.outcome import Outcome


_PERCENT = {Unit.SHARE, Unit.DIFFERENCE}
_SMALLEST_SPREAD = 0.0005
"""Smallest standard deviation of shares that is not 0.0 points."""
_LOOKS = 1.1
"""Lift from which on a model looks at the object; the shipped reference models reach 1.3."""


def candidate_name(outcome: Outcome) -> str:
    """Return the name of the candidate's file without its folders; empty where the run has no candidate."""
    candidate = outcome.models.get("candidate")
    return printable(candidate["path"].rstrip("/").rpartition("/")[2]) if candidate else ""


def points(difference: float) -> str:
    """Return a difference of shares in percentage points, with its sign."""
    return f"{100 * difference:+.1f}".replace("-", "−")


def case(verdict: Verdict) -> str:
    """Return what a check is about, within its family; its id where nothing else is known."""
    check = verdict.check
    parts = [check.class_name or "", *check.words, verdict.about]
    if check.pose != IDENTITY:
        parts.append(check.pose.in_words())
    return ", ".join(filter(None, parts)) or ("all images" if check.family in FAMILIES else check.id)


def measured_and_required(verdict: Verdict) -> tuple[str, str]:
    """Return the measured and the required value as text, never the same text for different numbers."""
    if verdict.value is None:
        return verdict.detail, ""
    minus = "−" if verdict.unit is Unit.DIFFERENCE else "-"
    if verdict.limit is None:
        return verdict.unit.format(verdict.value).replace("-", minus), ""
    value, limit = (each.replace("-", minus) for each in verdict.unit.told_apart(verdict.value, verdict.limit))
    word = "at least" if verdict.check.direction == "at_least" else "at most"
    return value, f"{word} {limit}{or_not_significant(verdict)}"


def or_not_significant(verdict: Verdict) -> str:
    """Return which p lets a check pass beyond its threshold, to stand behind it; empty where none does."""
    significance = verdict.check.significance
    return "" if significance is None or verdict.threshold is None else f", or p ≥ {significance:g}"


def reference(verdict: Verdict) -> str:
    """Return what reference models reach, as mean ± standard deviation; empty where nobody knows."""
    known = verdict.check.reference
    if known is None or known.mean is None or known.std is None:
        return ""
    if verdict.unit is Unit.IMAGES and verdict.check.share != 1:
        return verdict.unit.format(known.mean * verdict.check.share)
    spread = f"{known.std:.2g}"
    if verdict.unit in _PERCENT:
        spread = f"{100 * known.std:.1f}" if known.std == 0 or known.std >= _SMALLEST_SPREAD else "<0.1"
    return f"{verdict.unit.format(known.mean)} ± {spread}"


def significantly_more(mine: float, theirs: float) -> bool:
    """Return whether a count is larger by more than 1.96 standard deviations of the difference of two Poisson counts.

    Their sum estimates its variance.
    """
    return mine - theirs > Z95 * math.sqrt(mine + theirs)


def of_candidate(verdicts: Sequence[Verdict], metric: Metric) -> list[Verdict]:
    """Return the verdicts on the candidate with a value of this metric, under no other key than pose and class."""
    return [
        each
        for each in verdicts
        if (each.check.role, each.metric) == ("candidate", metric.name)
        and each.value is not None
        and not any(value is not None for value in each.check.keys.values())
    ]


def where_it_looks(outcome: Outcome, *, good: bool = True) -> str:
    """Return a sentence on the candidate's Grad-CAM mass on the object, as its checks measured it; empty without them.

    Without `good`, also empty if the model does look at the object.
    """
    lift, ratio = (
        {(one.check.pose, one.check.class_name): one for one in of_candidate(outcome.verdicts, metric)}.get(
            (IDENTITY, None)
        )
        for metric in (ATTENTION_LIFT, ATTENTION_RATIO)
    )
    if lift is None or ratio is None or lift.value is None or ratio.value is None:
        return ""
    looks = lift.value >= _LOOKS
    if looks and not good:
        return ""
    says = "It looks at the object" if looks else "It hardly looks at the object more than elsewhere"
    shares = f"Grad-CAM mass on the object {ratio.value:.0%}, {lift.value:.2f} times that of a uniform map"
    beside = f"; reference models {known}" if (known := reference(ratio)) else ""
    return f"{says}: {shares}{beside} ({ratio.n:,} images)."


WORDS: Mapping[str, tuple[str, str]] = {
    "check": (
        "check",
        "A measurement with a threshold. If one check misses its threshold, the model fails.",
    ),
    "threshold": ("threshold", "A minimum (at least) or a maximum (at most)."),
    "reference-models": (
        "reference models",
        "Networks of the candidate's recipe, trained with other seeds and known to be sound. A check shows their mean "
        "and standard deviation. With these thresholds, one in a hundred of them fails any check.",
    ),
    "minimum-detectable-drop": (
        "minimum detectable drop",
        "The smallest drop that the check finds with a probability of 95%; it may miss a smaller one.",
    ),
    "augmentation-range": (
        "augmentation range",
        "Poses that the checks hold a model to; for the shipped model ±10° and ±2 px.",
    ),
    "uniform-baseline": (
        "uniform baseline",
        "The Grad-CAM mass on the object of a uniform map: the share of the image that the object fills.",
    ),
    "candidate": ("candidate", "The checkpoint under test."),
    "baseline": ("baseline", "The model, trained without augmentation, that the candidate is compared with."),
    "incumbent": (
        "last accepted model (incumbent)",
        "The last accepted checkpoint. The next one must not be worse.",
    ),
    "confidence": ("confidence", "The probability that a model gives its prediction."),
    "informational": ("informational", "Measured without a threshold: it describes the model, and fails nothing."),
    "n": ("n", "The number of images that it was measured on."),
}
"""Terms of the page and their meaning, by their anchor: `word-` and the name."""


def explained(name: str) -> str:
    """Return the anchor of what is said about a family of checks; empty where nothing is."""
    return f"about-{name}" if name in FAMILIES else ""


def words(outcome: Outcome) -> Section:
    """Return the meaning of the behaviors of a run and of the terms of its page, folded; links open it."""
    families = dict.fromkeys(verdict.check.family for verdict in outcome.verdicts)
    behaviors = [FAMILIES[name] for name in families if name in FAMILIES]
    return Section("words", "Behaviors and terms", render("words", behaviors=behaviors, words=WORDS.items()))
