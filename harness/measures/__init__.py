"""From predictions to numbers; each metric is declared beside the function that computes it."""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING, TypeVar

from harness.measures.accuracy import (
    accuracy,
    accuracy_change,
    accuracy_gain,
    confident_errors,
    golden_right,
    pair_failures,
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
from harness.measures.localisation import attention_drift, attention_lift, attention_ratio, dead_maps
from harness.measures.metric import Measurement, Metric, Unit
from harness.measures.negative_flips import negative_flips
from harness.measures.panel.consensus import lost_consensus, lost_of_a_class, lost_to
from harness.measures.relations import invariance, kept, lost, monotonicity, symmetry
from harness.measures.slices import group_accuracy, group_gap, worst_group
from harness.measures.worst_poses import (
    breaking_severity,
    random_pose_accuracy,
    right_at_every_pose,
    unchanged_share,
    worst_of_ten,
)
from harness.store.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Measure = TypeVar("Measure", bound="Callable[..., Measurement]")
"""A function that measures."""


def _shipped() -> Mapping[str, Metric]:
    """Return the metrics that the modules of this package declare, by name."""
    modules = [importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
    return {item.name: item for module in modules for item in vars(module).values() if isinstance(item, Metric)}


METRICS: Registry[Metric] = Registry("metric", _shipped(), group="stress_harness.measures")
"""What can be measured, by the name that rows of the gates file have for it: here, and by what `measure` declares."""


def measure(metric: Metric) -> Callable[[Measure], Measure]:
    """Declare a metric of one's own: a decorator for the function that measures it.

    Rows of the gates file are then checked against it when the file is read. Raises `InputError` for a name that is
    taken.
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
    "confidence_on_errors",
    "confidence_rise",
    "confident_errors",
    "dead_maps",
    "golden_right",
    "group_accuracy",
    "group_gap",
    "invariance",
    "kept",
    "lost",
    "lost_consensus",
    "lost_of_a_class",
    "lost_to",
    "mean_corruption_error",
    "measure",
    "monotonicity",
    "negative_flips",
    "negative_log_likelihood",
    "pair_failures",
    "random_pose_accuracy",
    "right_at_every_pose",
    "risk_coverage_area",
    "symmetry",
    "unchanged_share",
    "worst_group",
    "worst_of_ten",
]
