"""Metrics of predictions; each is declared beside the function that computes it."""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING, TypeVar

from harness.base.registry import Registry
from harness.measures.accuracy import (
    accuracy,
    accuracy_change,
    accuracy_gain,
    confident_errors,
    golden_right,
    pair_failures,
)
from harness.measures.changed_predictions import (
    calibration_error_change,
    confidence_moved,
    confidence_moved_p99,
    consensus_predictions_changed,
    correct_predictions_lost,
    pooled_predictions_changed,
    predictions_changed,
    worst_class_correct_predictions_lost,
    worst_class_predictions_changed,
    worst_group_predictions_changed,
)
from harness.measures.confidence import (
    brier_score,
    calibration_error,
    confidence_on_errors,
    confidence_rise,
    mean_corruption_error,
    negative_log_likelihood,
    risk_coverage_area,
)
from harness.measures.flips import negative_flips
from harness.measures.localisation import attention_drift, attention_lift, attention_ratio, dead_maps
from harness.measures.metric import Measurement, Metric, Unit
from harness.measures.panel.consensus import (
    consensus_set_errors,
    find_consensus_set_errors,
    worst_class_consensus_set_errors,
)
from harness.measures.relations import invariance, monotonicity, object_dependence, prediction_consistency, symmetry
from harness.measures.serving import served_correct_predictions_lost, served_predictions_changed
from harness.measures.slices import class_difference, group_accuracy, group_difference, group_gap, worst_group
from harness.measures.unknown import unknown_auroc, unknown_fpr95
from harness.measures.worst_poses import (
    breaking_severity,
    random_pose_accuracy,
    robust_accuracy,
    unchanged_share,
    worst_of_ten,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Measure = TypeVar("Measure", bound="Callable[..., Measurement]")
"""A function that measures."""


def _shipped() -> Mapping[str, Metric]:
    """Return the metrics that the modules of this package declare, by name."""
    modules = [importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
    return {item.name: item for module in modules for item in vars(module).values() if isinstance(item, Metric)}


METRICS: Registry[Metric] = Registry("metric", _shipped(), group="stress_harness.measures")
"""Metrics by their name in the checks file: the shipped ones, and those that `measure` declares."""


def measure(metric: Metric) -> Callable[[Measure], Measure]:
    """Declare a metric of your own, as a decorator of its function.

    Reading a checks file then validates rows with this metric. Raises `InputError` for a name that is taken.
    """

    def declared(function: Measure) -> Measure:
        METRICS.add(metric.name, metric, declared_by=function)
        return function

    return declared


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
    "calibration_error_change",
    "class_difference",
    "confidence_moved",
    "confidence_moved_p99",
    "confidence_on_errors",
    "confidence_rise",
    "confident_errors",
    "consensus_predictions_changed",
    "consensus_set_errors",
    "correct_predictions_lost",
    "dead_maps",
    "find_consensus_set_errors",
    "golden_right",
    "group_accuracy",
    "group_difference",
    "group_gap",
    "invariance",
    "mean_corruption_error",
    "measure",
    "monotonicity",
    "negative_flips",
    "negative_log_likelihood",
    "object_dependence",
    "pair_failures",
    "pooled_predictions_changed",
    "prediction_consistency",
    "predictions_changed",
    "random_pose_accuracy",
    "risk_coverage_area",
    "robust_accuracy",
    "served_correct_predictions_lost",
    "served_predictions_changed",
    "symmetry",
    "unchanged_share",
    "unknown_auroc",
    "unknown_fpr95",
    "worst_class_consensus_set_errors",
    "worst_class_correct_predictions_lost",
    "worst_class_predictions_changed",
    "worst_group",
    "worst_group_predictions_changed",
    "worst_of_ten",
]
