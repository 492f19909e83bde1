"""Rules that name the likely cause of failures, in their order: the first with evidence names the group."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.base.errors import some_of
from harness.checks.families import families_in_words
from harness.measures import METRICS
from harness.measures.accuracy import ACCURACY, CONFIDENT_ERRORS
from harness.measures.confidence import CALIBRATION_ERROR, RISK_COVERAGE_AREA
from harness.measures.slices import GROUP_ACCURACY, GROUP_DIFFERENCE
from harness.perturb import IDENTITY
from harness.report.cause_classes import by_class, by_margin, by_points, by_swap, missing_in_words
from harness.report.cause_evidence import (
    APART,
    ATTENTION_AREA,
    CLASS_AREA,
    CLEAN,
    CONFIDENCE_AREA,
    CORRUPTION_AREA,
    GEOMETRY_AREA,
    OF_ALL_IMAGES,
    OTHER_AREA,
    TWO,
    Evidence,
)
from harness.report.signs import FAR, deviation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.checks import Verdict

CLASSES, GROUP, GEOMETRY, CORRUPTION = (
    "class confusion",
    "one group of images",
    "geometry",
    "a corruption family",
)
CALIBRATION, ATTENTION, DRIFT, PIPELINE = (
    "calibration",
    "attention",
    "drift of everything",
    "broken pipeline",
)
LABELS = "training labels"
MISSING, WEIGHTS = "a class that is never predicted", "changed weights"
UNCLEAR = "unclear"

_APART_FROM_OTHERS = {
    CLEAN,
    CLASS_AREA,
    GEOMETRY_AREA,
    CORRUPTION_AREA,
    CONFIDENCE_AREA,
    ATTENTION_AREA,
}
"""Where a rule asks in how many areas a model is worse, all areas but these count as one."""
_OTHERS = 1 / 2
"""Largest rise of the log odds of an error of any other group of a column, as a share of that of the cause."""
_UNSURE = 0.05
"""Smallest difference of accuracy and confidence, a share, that wrong training labels explain."""
COMPARE_PIXELS = "Compare the pixels of training and gate: decoder, size, scale and normalization."
_LOOK_AT_TRAINING = (
    "Look at wrong training labels, label smoothing, weight decay, training time and scaled logits."
)
_LOOK_AT_LABELS = "Look at the labels of these classes and at the last layer."
LOOK_FOR_CLASS = "Look for its images in the training data, at the list of classes, and at its row of the last layer."
_BETTER, SURELY_BETTER, _WORSE = 1.5, 2.0, 5.0
"""Differences of corruptions under another pipeline, in standard deviations of reference models.

By chance, 9 of 60 healthy controls have two kinds of corruption that are better by 1.5, and none has two by 2.
"""


def expects_other_pixels(evidence: Evidence, *, by: float) -> bool:
    """Return whether two kinds of corruption are better by so many standard deviations, and one is far worse."""
    return len(evidence.better(by)) >= TWO and max(evidence.kinds.values()) >= _WORSE


def _labels(evidence: Evidence) -> str:
    """Contradictory labels lower confidence on all images, but hardly its order, and accuracy far less."""
    on_clean = {
        verdict.metric: verdict
        for verdict in reversed(evidence.verdicts)
        if verdict.check.family in {"clean", "confidence"} and verdict.check.pose == IDENTITY
    }
    clean, calibration, errors, risk = (
        on_clean.get(metric.name)
        for metric in (ACCURACY, CALIBRATION_ERROR, CONFIDENT_ERRORS, RISK_COVERAGE_AREA)
    )
    if (
        clean is None
        or calibration is None
        or errors is None
        or clean.value is None
        or calibration.value is None
    ):
        return ""
    both_fail = clean.status == calibration.status == "fail"
    worse_order = 0.0 if risk is None else deviation(risk) or 0.0
    is_strongest = (deviation(calibration) or 0.0) > max(evidence.accuracy_on_clean(), worse_order)
    more_confident_errors = (deviation(errors) or 0.0) > 0
    if not both_fail or not is_strongest or more_confident_errors or calibration.value < _UNSURE:
        return ""
    confidence = clean.value - calibration.value
    return (
        f"Accuracy {clean.value:.1%} is far above mean confidence, about {confidence:.1%}: labels that contradict "
        "each other make a model unsure."
    )


def _calibration(evidence: Evidence) -> str:
    areas = {failing.area for failing in evidence.failing if not _names_pair(failing.verdict)}
    of_confidence = [failing for failing in evidence.failing if failing.area == CONFIDENCE_AREA]
    if not of_confidence or areas - {CONFIDENCE_AREA, ATTENTION_AREA}:
        return ""
    if max(failing.miss for failing in of_confidence) < FAR or by_class(evidence):
        return ""
    pairs = evidence.strongest(lambda failing: _names_pair(failing.verdict))
    if pairs >= APART * evidence.strongest_in(CONFIDENCE_AREA):
        return ""
    return "Checks of confidence fail, and none of accuracy."


def _names_pair(verdict: Verdict) -> bool:
    """Return whether a check measures the probability of a confused pair, which scaled probabilities move, too."""
    metric = METRICS.get(verdict.metric)
    return bool(metric and metric.names_cause)


def _attention(evidence: Evidence) -> str:
    return "Only checks of attention fail." if evidence.areas == {ATTENTION_AREA} else ""


def _geometry(evidence: Evidence) -> str:
    if not evidence.mostly(GEOMETRY_AREA):
        return ""
    families = [
        failing.verdict.check.family
        for failing in evidence.failing
        if failing.area == GEOMETRY_AREA
    ]
    named = families_in_words(by_count(families))
    return f"{_clean_in_words(evidence)}, and most failing checks rotate, translate or flip images ({named})."


def _clean_in_words(evidence: Evidence) -> str:
    if evidence.clean_passes:
        return "Clean accuracy passes"
    return "Clean accuracy deviates far less than other checks"


def _group(evidence: Evidence) -> str:
    """Compare the odds of an error, by column and group: damage to all moves all odds alike, but not accuracy."""
    different = [
        failing.verdict.check.keys
        for failing in evidence.failing
        if failing.verdict.metric == GROUP_DIFFERENCE.name
    ]
    for by, rises in _rises_of_odds(evidence.verdicts).items():
        falling = {str(keys.get("group")) for keys in different if keys.get("by") == by}
        others = [rise for group, rise in rises.items() if group not in falling]
        (group,) = falling if len(falling) == 1 else ("",)
        own = rises.get(group, 0.0)
        if own > 0 and others and max(others) <= _OTHERS * own:
            return (
                f"The odds of an error on {by} {group} are {np.exp(own):.1f} times those of reference models, on "
                f"any other group by {by} at most {np.exp(max(others)):.1f} times."
            )
    return ""


def _rises_of_odds(verdicts: Sequence[Verdict]) -> dict[str, dict[str, float]]:
    """Return the rise of the log odds of an error against reference models, by column and group."""
    rises: dict[str, dict[str, float]] = {}
    for verdict in verdicts:
        panel, keys = verdict.check.panel, verdict.check.keys
        on_clean = (verdict.metric, verdict.check.pose) == (GROUP_ACCURACY.name, IDENTITY)
        if not on_clean or verdict.value is None or panel is None or panel.mean is None:
            continue
        own, usual = (
            _log_odds_of_error(accuracy, verdict.n) for accuracy in (verdict.value, panel.mean)
        )
        rises.setdefault(str(keys.get("by")), {})[str(keys.get("group"))] = own - usual
    return rises


def _log_odds_of_error(accuracy: float, n: int) -> float:
    # Half a prediction more on either side keeps the odds finite (Haldane 1956, Anscombe 1956).
    right = n * accuracy + 0.5
    return float(np.log((n + 1 - right) / right))


def _pipeline(evidence: Evidence) -> str:
    if not expects_other_pixels(evidence, by=_BETTER) or evidence.areas <= {CORRUPTION_AREA}:
        return ""
    first, second, *_ = evidence.better(_BETTER)
    worst = max(evidence.kinds, key=lambda kind: evidence.kinds[kind])
    under = (
        f"Under {first} and {second} the model is better than reference models, under {worst} worse"
    )
    return f"{under}: it expects other pixels than it gets."


def _corruption(evidence: Evidence) -> str:
    if not evidence.mostly(CORRUPTION_AREA):
        return ""
    kinds = [
        str(failing.verdict.check.keys.get("corruption"))
        for failing in evidence.failing
        if failing.area == CORRUPTION_AREA
    ]
    return f"{_clean_in_words(evidence)}, and most failing checks are of corruptions ({some_of(by_count(kinds))})."


def _named(evidence: Evidence) -> str:
    """Return the detail of the failing check that names the cause and deviates most.

    The accuracy of all images must pass, and what tells of the whole network by its probabilities or statistics, too.
    Something that is a cause of its own, such as another recipe, explains the check if it deviates far more.
    """
    details = []
    for verdict in evidence.verdicts:
        metric = METRICS.get(verdict.metric)
        if verdict.status != "fail":
            continue
        if metric and metric.names_cause:
            details.append((deviation(verdict) or 0.0, verdict.detail))
        elif verdict.check.family in OF_ALL_IMAGES or (metric and metric.heavy_tailed):
            return ""
    if not details:
        return ""
    strongest, detail = max(details)
    of_own_areas = evidence.largest_of_own_areas
    # A threshold by hand has no reference models, and so no deviation.
    explained = of_own_areas > 0 and of_own_areas >= APART * max(strongest, 0.0)
    return "" if explained else f"{detail}."


def _drift(evidence: Evidence) -> str:
    largest_miss = max((failing.miss for failing in evidence.failing), default=0.0)
    of_groups = [
        failing.miss
        for failing in evidence.failing
        if failing.verdict.metric == GROUP_DIFFERENCE.name
    ]
    if any(4 * miss >= largest_miss for miss in of_groups):
        return ""  # Neither everything nor, as far as odds tell, one group alone.
    areas = {area if area in _APART_FROM_OTHERS else OTHER_AREA for area in evidence.areas}
    if evidence.clean_holds and len(areas) <= TWO:
        return ""
    if areas <= {CLEAN, CONFIDENCE_AREA}:
        return ""  # Poses, corruptions and single classes hold, so not everything is worse.
    strongest = max(evidence.failing, key=lambda failing: failing.deviation)
    away = f"by {strongest.deviation:.1f} standard deviations of reference models"
    words = (
        f"Checks of {some_of(sorted(evidence.areas), shown=6)} fail, and {_outstanding(evidence)}."
    )
    return f"{strongest.verdict.check.id} deviates most, {away}. {words}"


def _outstanding(evidence: Evidence) -> str:
    """Return as text which classes stand out in a drift, if any do."""
    predicted = evidence.predicted
    if len(evidence.never_predicted) > len(predicted):
        if len(predicted) == 1:
            return f"{predicted[0]} is the only class predicted"
        return f"the only classes predicted are {some_of(predicted)}"
    if evidence.never_predicted:
        return missing_in_words(evidence)
    if evidence.carrying:
        return f"{' and '.join(evidence.carrying)} lose most"
    return "no class, pose or corruption stands out"


def by_count(names: Sequence[str]) -> list[str]:
    """Return each name once, the most frequent first."""
    return sorted(dict.fromkeys(names), key=lambda name: -names.count(name))


RULES: tuple[tuple[str, str, Callable[[Evidence], str]], ...] = (
    (LABELS, "Look at wrong training labels first.", _labels),
    (CALIBRATION, _LOOK_AT_TRAINING, _calibration),
    (ATTENTION, "Look at what stands beside the objects in training images.", _attention),
    (GEOMETRY, "Look at the augmentation: its angles, shifts and flips.", _geometry),
    (GROUP, "Look at this group's pictures, labels and share of the training data.", _group),
    (CLASSES, _LOOK_AT_LABELS, by_swap),
    (CLASSES, _LOOK_AT_LABELS, by_points),
    (CLASSES, _LOOK_AT_LABELS, by_margin),
    (CLASSES, _LOOK_AT_LABELS, by_class),
    (PIPELINE, COMPARE_PIXELS, _pipeline),
    (CORRUPTION, "Look at the augmentation and at the pixels of training images.", _corruption),
    (
        CLASSES,
        "Look at the labels of these classes in training, and for stamps and marks in its images.",
        _named,
    ),
    (
        DRIFT,
        "Look at weights, precision, training time and data, then at the pixels of training and gate.",
        _drift,
    ),
)
"""Rules in their order: the first with evidence names the group."""
