"""Causes that batch norms show: weights changed after training, and statistics that misfit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.features.batch_norm.metrics import (
    BATCH_NORM_DISTANCE,
    BATCH_NORM_DISTANCE_MINIMUM,
    BATCH_NORM_MISFIT,
    GROUPS,
)
from harness.measures.slices import GROUP_DIFFERENCE
from harness.report.cause_evidence import APART, BESIDE, CONFIDENCE_AREA, FailingCheck
from harness.report.cause_rules import WEIGHTS
from harness.report.signs import FAR, deviation

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harness.checks import Verdict

_GROWTH = 2.5
"""Largest deviation of later layers that changed weights explain, as a multiple of the early ones'.

Measured: weight noise, flipped signs, 4 bits and pruned channels give 0.9 to 2.1, other
normalizations 2.9 to 7.8, and stale statistics 2.4 to 2.6. See `benchmarks/causes`.
"""
_NEARER = -2.0
"""Deviation of early layers below which statistics fit clean images too well.

Reference models vary by as much.
"""
_AREA = "batch norms"
_MAXIMA = {BATCH_NORM_DISTANCE.name, BATCH_NORM_MISFIT.name}
_ADVICE = (
    "Compare the file with the one that training saved: quantization, pruning, noise, a wrong "
    "conversion or a damaged file."
)
_ADVICE_FOR_STATISTICS = (
    "Look at the running statistics of these layers first, then for changed weights and other "
    "pixels than in training."
)


def cause_of_batch_norms(verdicts: Sequence[Verdict]) -> tuple[str, str, str] | None:
    """Return the cause that batch norms show, its evidence and advice.

    None if other checks are stronger evidence.
    """
    return changed_weights(verdicts) or misfitting_statistics(verdicts)


def changed_weights(verdicts: Sequence[Verdict]) -> tuple[str, str, str] | None:
    """Return the cause, its evidence and advice if the weights do not fit their batch norms.

    The statistics must miss the activations in the early layers and in later ones. Other pixels
    miss little there, and more with each layer. After another augmentation, or soon after a reset,
    statistics lie nearer to clean images than those of reference models.
    """
    of_maxima = [verdict for verdict in verdicts if verdict.metric in _MAXIMA]
    failing_groups = {_group_of(verdict) for verdict in of_maxima if verdict.status == "fail"}
    if GROUPS[0] not in failing_groups or len(failing_groups) == 1 or _is_nearer(verdicts):
        return None

    deviations = dict.fromkeys(GROUPS, 0.0)
    for verdict in of_maxima:
        group = _group_of(verdict)
        deviations[group] = max(deviations[group], deviation(verdict) or 0.0)
    early, *later = deviations.values()
    if max(later) > _GROWTH * early:
        return None

    measured = ", ".join(
        f"{group} layers {distance:.1f}" for group, distance in deviations.items() if distance > 0
    )
    evidence = (
        "From the first layers on, activations do not fit the statistics that batch norms keep "
        f"from training ({measured} standard deviations of reference models)."
    )
    return WEIGHTS, evidence, _ADVICE


def misfitting_statistics(verdicts: Sequence[Verdict]) -> tuple[str, str, str] | None:
    """Return the cause, its evidence and advice if batch norms deviate most.

    They must deviate more than every failing check of predictions. Log loss and other checks of
    confidence have no largest value, so that they may deviate by four times as much. A group that
    training lacks moves the statistics a little, too, so that batch norms must deviate by twice as
    much as the difference of a group. Statistics that are too near to clean images, as after
    training without augmentation, are no misfit; they count among the others.
    """
    failing = [FailingCheck.of(verdict) for verdict in verdicts if verdict.status == "fail"]
    of_maxima = [check for check in failing if check.verdict.metric in _MAXIMA]
    others = [check for check in failing if check.verdict.metric not in _MAXIMA]
    unknown = any(deviation(check.verdict) is None for check in others)
    if unknown or all(check.miss < FAR for check in of_maxima):
        return None  # Checks without reference models may be stronger evidence.

    of_statistics = _largest(of_maxima)
    of_predictions = _largest(check for check in others if check.area != CONFIDENCE_AREA)
    of_groups = _largest(check for check in others if check.verdict.metric == GROUP_DIFFERENCE.name)
    is_largest = (
        of_statistics > of_predictions
        and of_statistics >= APART * of_groups
        and of_statistics >= BESIDE * _largest(others)
    )
    if not is_largest:
        return None

    failing_groups = {_group_of(check.verdict) for check in of_maxima}
    layers = " and ".join(name for name in GROUPS if name in failing_groups)
    if len(failing_groups) == len(GROUPS):
        layers = "all"
    evidence = (
        f"Activations do not fit the running statistics of {layers} layers, by up to "
        f"{of_statistics:.1f} standard deviations of reference models"
    )
    if of_predictions:
        evidence += f"; checks of predictions deviate by at most {of_predictions:.1f}"
    return _AREA, f"{evidence}.", _ADVICE_FOR_STATISTICS


def _largest(checks: Iterable[FailingCheck]) -> float:
    return max((check.deviation for check in checks), default=0.0)


def _group_of(verdict: Verdict) -> str:
    return str(verdict.check.keys.get("layers"))


def _is_nearer(verdicts: Sequence[Verdict]) -> bool:
    """Return whether statistics fit clean images better than those of reference models."""
    for verdict in verdicts:
        is_minimum = verdict.metric == BATCH_NORM_DISTANCE_MINIMUM.name
        is_early_distance = (
            verdict.metric == BATCH_NORM_DISTANCE.name and _group_of(verdict) == GROUPS[0]
        )
        if is_minimum and verdict.status == "fail":
            return True
        if is_early_distance and (deviation(verdict) or 0.0) < _NEARER:
            return True
    return False
