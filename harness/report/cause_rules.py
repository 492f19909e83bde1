"""Rules that name the likely cause of failures.

The first rule with evidence names the group.
"""

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
    CauseEvidence,
)
from harness.report.signs import FAR, deviation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.checks import Verdict
    from harness.report.cause_evidence import FailingCheck

CLASSES = "class confusion"
GROUP = "one group of images"
GEOMETRY = "geometry"
CORRUPTION = "a corruption family"
CALIBRATION = "calibration"
ATTENTION = "attention"
DRIFT = "drift of everything"
PIPELINE = "broken pipeline"
LABELS = "training labels"
MISSING = "a class that is never predicted"
WEIGHTS = "changed weights"
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
_LARGEST_RISE_ELSEWHERE = 1 / 2
"""Largest rise of the log odds of an error in any other group, as a share of the cause's rise."""
_UNDERCONFIDENT = 0.05
"""Smallest difference of accuracy and mean confidence that wrong training labels explain."""
COMPARE_PIXELS = "Compare the pixels of training and gate: decoder, size, scale and normalization."
_LOOK_AT_TRAINING = (
    "Look at wrong training labels, label smoothing, weight decay, training time and scaled logits."
)
_LOOK_AT_LABELS = "Look at the labels of these classes and at the last layer."
LOOK_FOR_CLASS = (
    "Look for its images in the training data, at the list of classes, and at its row of the last "
    "layer."
)
_BETTER, SURELY_BETTER, _WORSE = 1.5, 2.0, 5.0
"""Differences under corruptions that show another pipeline, in standard deviations.

By chance, 9 of 60 healthy controls have two kinds of corruption that are better by 1.5, and none
has two by 2.
"""


def expects_other_pixels(evidence: CauseEvidence, *, by: float) -> bool:
    """Return whether the candidate seems to expect another pipeline.

    Two kinds of corruption are then better by at least `by` standard deviations of the reference
    models, and one is far worse.
    """
    return len(evidence.better(by)) >= TWO and max(evidence.kinds.values()) >= _WORSE


def _labels(evidence: CauseEvidence) -> str:
    """Return evidence for wrong training labels.

    Contradictory labels lower the confidence on all images, hardly its order, and accuracy less.
    """
    on_clean = _first_verdicts_on_clean(evidence)
    clean = on_clean.get(ACCURACY.name)
    calibration = on_clean.get(CALIBRATION_ERROR.name)
    confident_errors = on_clean.get(CONFIDENT_ERRORS.name)
    risk = on_clean.get(RISK_COVERAGE_AREA.name)
    if clean is None or calibration is None or confident_errors is None:
        return ""
    if clean.value is None or calibration.value is None:
        return ""

    both_fail = clean.status == calibration.status == "fail"
    if not both_fail or calibration.value < _UNDERCONFIDENT:
        return ""
    more_confident_errors = (deviation(confident_errors) or 0.0) > 0
    if more_confident_errors:
        return ""
    order_deviation = 0.0 if risk is None else deviation(risk) or 0.0
    largest_other = max(evidence.accuracy_on_clean(), order_deviation)
    if (deviation(calibration) or 0.0) <= largest_other:
        return ""

    confidence = clean.value - calibration.value
    return (
        f"Accuracy {clean.value:.1%} is far above mean confidence, about {confidence:.1%}: labels "
        "that contradict each other make a model unsure."
    )


def _first_verdicts_on_clean(evidence: CauseEvidence) -> dict[str, Verdict]:
    """Return the first verdict of each metric on clean images, by name of the metric."""
    first: dict[str, Verdict] = {}
    for verdict in evidence.verdicts:
        check = verdict.check
        if check.family in {"clean", "confidence"} and check.pose == IDENTITY:
            first.setdefault(verdict.metric, verdict)
    return first


def _calibration(evidence: CauseEvidence) -> str:
    """Return evidence for wrong probabilities of right predictions."""
    of_confidence = _failing_in(evidence, CONFIDENCE_AREA)
    if not of_confidence or by_class(evidence):
        return ""
    if max(failing.miss for failing in of_confidence) < FAR:
        return ""

    strongest = evidence.strongest_in(CONFIDENCE_AREA)
    for failing in evidence.failing:
        if failing.area in {CONFIDENCE_AREA, ATTENTION_AREA}:
            continue
        if _names_pair(failing.verdict):
            if failing.deviation >= APART * strongest:
                return ""
        elif not _follows_from_confidence(failing, strongest):
            return ""
    return "Checks of confidence fail, and none of accuracy."


def _follows_from_confidence(failing: FailingCheck, strongest: float) -> bool:
    """Return whether lower confidence on all images explains a check.

    The change of a probability between two views is the smaller, the smaller the probability is.
    """
    metric = METRICS.get(failing.verdict.metric)
    of_probabilities = metric is not None and metric.of_probabilities
    return of_probabilities and APART * failing.deviation <= strongest


def _names_pair(verdict: Verdict) -> bool:
    """Return whether a check measures the probability of a confused pair.

    Scaled probabilities move it, too.
    """
    metric = METRICS.get(verdict.metric)
    return bool(metric and metric.names_cause)


def _attention(evidence: CauseEvidence) -> str:
    if evidence.areas != {ATTENTION_AREA}:
        return ""
    return "Only checks of attention fail."


def _geometry(evidence: CauseEvidence) -> str:
    if not evidence.mostly(GEOMETRY_AREA):
        return ""
    families = [check.verdict.check.family for check in _failing_in(evidence, GEOMETRY_AREA)]
    names = families_in_words(by_count(families))
    return (
        f"{_clean_in_words(evidence)}, and most failing checks rotate, translate or flip images "
        f"({names})."
    )


def _failing_in(evidence: CauseEvidence, area: str) -> list[FailingCheck]:
    return [check for check in evidence.failing if check.area == area]


def _clean_in_words(evidence: CauseEvidence) -> str:
    if evidence.clean_passes:
        return "Clean accuracy passes"
    return "Clean accuracy deviates far less than other checks"


def _group(evidence: CauseEvidence) -> str:
    """Return evidence for a cause in one group of a column.

    It compares the odds of an error by group, because damage to all images moves all odds alike,
    but not all accuracies.
    """
    failing_keys = [
        failing.verdict.check.keys
        for failing in evidence.failing
        if failing.verdict.metric == GROUP_DIFFERENCE.name
    ]
    for column, rises in _rises_of_odds(evidence.verdicts).items():
        failing_groups = {
            str(keys.get("group")) for keys in failing_keys if keys.get("by") == column
        }
        other_rises = [rise for group, rise in rises.items() if group not in failing_groups]
        if len(failing_groups) != 1 or not other_rises:
            continue
        (group,) = failing_groups
        own_rise = rises.get(group, 0.0)
        if own_rise > 0 and max(other_rises) <= _LARGEST_RISE_ELSEWHERE * own_rise:
            return (
                f"The odds of an error on {column} {group} are {np.exp(own_rise):.1f} times those "
                f"of reference models, on any other group by {column} at most "
                f"{np.exp(max(other_rises)):.1f} times."
            )
    return ""


def _rises_of_odds(verdicts: Sequence[Verdict]) -> dict[str, dict[str, float]]:
    """Return the rise of the log odds of an error over reference models, by column and group."""
    rises: dict[str, dict[str, float]] = {}
    for verdict in verdicts:
        check = verdict.check
        if verdict.metric != GROUP_ACCURACY.name or check.pose != IDENTITY:
            continue
        if verdict.value is None or check.panel is None or check.panel.mean is None:
            continue
        own = _log_odds_of_error(verdict.value, verdict.n)
        expected = _log_odds_of_error(check.panel.mean, verdict.n)
        column, group = str(check.keys.get("by")), str(check.keys.get("group"))
        rises.setdefault(column, {})[group] = own - expected
    return rises


def _log_odds_of_error(accuracy: float, n: int) -> float:
    # Half a prediction more on either side keeps the odds finite (Haldane 1956, Anscombe 1956).
    correct = n * accuracy + 0.5
    return float(np.log((n + 1 - correct) / correct))


def _pipeline(evidence: CauseEvidence) -> str:
    if not expects_other_pixels(evidence, by=_BETTER) or evidence.areas <= {CORRUPTION_AREA}:
        return ""
    first, second, *_ = evidence.better(_BETTER)
    worst = max(evidence.kinds, key=lambda kind: evidence.kinds[kind])
    return (
        f"Under {first} and {second} the model is better than reference models, under {worst} "
        "worse: it expects other pixels than it gets."
    )


def _corruption(evidence: CauseEvidence) -> str:
    if not evidence.mostly(CORRUPTION_AREA):
        return ""
    failing = _failing_in(evidence, CORRUPTION_AREA)
    kinds = [str(check.verdict.check.keys.get("corruption")) for check in failing]
    names = some_of(by_count(kinds))
    return f"{_clean_in_words(evidence)}, and most failing checks are of corruptions ({names})."


def _named(evidence: CauseEvidence) -> str:
    """Return the detail of the failing check that names the cause and deviates most.

    It is empty if a check of all images fails, or one of the whole network's probabilities or
    statistics. It is empty, too, if a cause of its own, such as another recipe, deviates far more
    and so explains the check.
    """
    details = []
    for verdict in evidence.verdicts:
        if verdict.status != "fail":
            continue
        metric = METRICS.get(verdict.metric)
        if metric and metric.names_cause:
            details.append((deviation(verdict) or 0.0, verdict.detail))
        elif verdict.check.family in OF_ALL_IMAGES or (metric and metric.heavy_tailed):
            return ""
    if not details:
        return ""

    strongest, detail = max(details)
    own_cause = evidence.largest_of_own_areas
    # A threshold by hand has no reference models, and so no deviation.
    if own_cause > 0 and own_cause >= APART * max(strongest, 0.0):
        return ""
    return f"{detail}."


def _drift(evidence: CauseEvidence) -> str:
    """Return evidence that the candidate is worse in most respects."""
    largest_miss = max((failing.miss for failing in evidence.failing), default=0.0)
    for failing in evidence.failing:
        is_of_group = failing.verdict.metric == GROUP_DIFFERENCE.name
        if is_of_group and 4 * failing.miss >= largest_miss:
            return ""  # Neither everything nor, as far as odds tell, one group alone.

    areas = {area if area in _APART_FROM_OTHERS else OTHER_AREA for area in evidence.areas}
    if evidence.clean_holds and len(areas) <= TWO:
        return ""
    if areas <= {CLEAN, CONFIDENCE_AREA}:
        return ""  # Poses, corruptions and single classes hold, so not everything is worse.

    strongest = max(evidence.failing, key=lambda failing: failing.deviation)
    away = f"by {strongest.deviation:.1f} standard deviations of reference models"
    failing_areas = some_of(sorted(evidence.areas), shown=6)
    return (
        f"{strongest.verdict.check.id} deviates most, {away}. "
        f"Checks of {failing_areas} fail, and {_outstanding(evidence)}."
    )


def _outstanding(evidence: CauseEvidence) -> str:
    """Return as text which classes stand out in a drift, if any do."""
    predicted = evidence.predicted
    if predicted and len(evidence.never_predicted) > len(predicted):
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
    unique_names = dict.fromkeys(names)
    return sorted(unique_names, key=lambda name: -names.count(name))


RULES: tuple[tuple[str, str, Callable[[CauseEvidence], str]], ...] = (
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
        "Look at weights, precision, training time and data, then at the pixels of training and "
        "gate.",
        _drift,
    ),
)
"""Rules in their order: the first with evidence names the group."""
