"""From predictions to numbers; each metric is declared beside the function that computes it."""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING

from harness.measures.accuracy import accuracy, accuracy_change, accuracy_gain, confident_errors, pair_failures
from harness.measures.confidence import (
    brier_score,
    calibration_error,
    confidence_on_errors,
    confidence_rise,
    mean_corruption_error,
    negative_log_likelihood,
    risk_coverage_area,
)
from harness.measures.localisation import attention_drift, attention_lift, attention_ratio, dead_maps
from harness.measures.metric import Measurement, Metric, Unit
from harness.measures.relations import invariance, kept, lost, monotonicity, symmetry
from harness.measures.worst_poses import (
    breaking_severity,
    random_pose_accuracy,
    right_at_every_pose,
    unchanged_share,
    worst_of_ten,
)

if TYPE_CHECKING:
    from collections.abc import Mapping


def _declared() -> dict[str, Metric]:
    """Return the metrics that the modules of this package declare, by name."""
    modules = [importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
    return {item.name: item for module in modules for item in vars(module).values() if isinstance(item, Metric)}


METRICS: Mapping[str, Metric] = _declared()
"""What can be measured here, by the name that rows of the gates file have for it."""

__all__ = [
    "METRICS",
    "Measurement",
    "Metric",
    "Unit",
    "accuracy",
    "accuracy_change",
    "accuracy_gain",
    "attention_drift",
    "attention_lift",
    "attention_ratio",
    "breaking_severity",
    "brier_score",
    "calibration_error",
    "confidence_on_errors",
    "confidence_rise",
    "confident_errors",
    "dead_maps",
    "invariance",
    "kept",
    "lost",
    "mean_corruption_error",
    "monotonicity",
    "negative_log_likelihood",
    "pair_failures",
    "random_pose_accuracy",
    "right_at_every_pose",
    "risk_coverage_area",
    "symmetry",
    "unchanged_share",
    "worst_of_ten",
]
