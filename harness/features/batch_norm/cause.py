"""Cause that batch norms tell: weights that changed after training, while their statistics stayed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.features.batch_norm.metrics import (
    BATCH_NORM_DISTANCE,
    BATCH_NORM_DISTANCE_MINIMUM,
    BATCH_NORM_MISFIT,
    GROUPS,
)
from harness.report.causes import WEIGHTS
from harness.report.signs import deviation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.checks import Verdict

_GROWTH = 2.5
"""Largest deviation of later layers that changed weights explain, as a multiple of the early ones'.

Measured: weight noise, flipped signs, 4 bits and pruned channels give 0.9 to 2.1, other
normalizations 2.9 to 7.8, and stale statistics 2.4 to 2.6. See `benchmarks/causes`.
"""
_NEARER = -2.0
"""Deviation of early layers below which statistics fit clean images too well; reference models vary by as much."""
_ADVICE = (
    "Compare the file with the one that training saved: quantization, pruning, noise, a wrong "
    "conversion or a damaged file."
)


def changed_weights(verdicts: Sequence[Verdict]) -> tuple[str, str, str] | None:
    """Return the cause, its evidence and advice if the weights do not fit their batch norms.

    The statistics must miss the activations in the early layers and in later ones. Other pixels miss little
    there, and more with each layer. After another augmentation, or soon after a reset, statistics
    lie nearer to clean images than those of reference models.
    """
    of_maxima = [
        verdict for verdict in verdicts if verdict.metric in {BATCH_NORM_DISTANCE.name, BATCH_NORM_MISFIT.name}
    ]
    failing_groups = {_group_of(verdict) for verdict in of_maxima if verdict.status == "fail"}
    if GROUPS[0] not in failing_groups or len(failing_groups) == 1 or _is_nearer(verdicts):
        return None

    deviations = dict.fromkeys(GROUPS, 0.0)
    for verdict in of_maxima:
        group, away = _group_of(verdict), deviation(verdict) or 0.0
        deviations[group] = max(deviations[group], away)
    early, *later = deviations.values()
    if max(later) > _GROWTH * early:
        return None

    measured = ", ".join(f"{name} layers {away:.1f}" for name, away in deviations.items() if away > 0)
    evidence = (
        "From the first layers on, activations do not fit the statistics that batch norms keep "
        f"from training ({measured} standard deviations of reference models)."
    )
    return WEIGHTS, evidence, _ADVICE


def _group_of(verdict: Verdict) -> str:
    return str(verdict.check.keys.get("layers"))


def _is_nearer(verdicts: Sequence[Verdict]) -> bool:
    """Return whether statistics fit clean images better than those of reference models."""
    for verdict in verdicts:
        is_minimum = verdict.metric == BATCH_NORM_DISTANCE_MINIMUM.name
        is_early_distance = verdict.metric == BATCH_NORM_DISTANCE.name and _group_of(verdict) == GROUPS[0]
        if is_minimum and verdict.status == "fail":
            return True
        if is_early_distance and (deviation(verdict) or 0.0) < _NEARER:
            return True
    return False
