"""Metrics of predictions.

Each is declared beside the function that computes it, and this package has them all.

Unless a function says otherwise, the interval of a share is Wilson's (Wilson 1927). That of a
number of images is the interval of their share, times all images. The interval of a mean is normal,
± 1.96 standard errors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from harness.base.registry import Registry
from harness.measures.accuracy import *
from harness.measures.changed_predictions import *
from harness.measures.confidence import *
from harness.measures.localisation import *
from harness.measures.metric import *
from harness.measures.panel.pairing import *
from harness.measures.relations import *
from harness.measures.slices import *
from harness.measures.unknown import *
from harness.measures.worst_poses import *

if TYPE_CHECKING:
    from collections.abc import Callable

Measure = TypeVar("Measure", bound="Callable[..., Measurement]")
"""A function that measures."""


METRICS = Registry(
    "metric",
    Metric,
    {item.name: item for item in [*globals().values()] if isinstance(item, Metric)},
    hook="stress_metrics",
)
"""Metrics by their name in the checks file: the shipped ones, and those that `measure` declares."""


def never_judged(name: str) -> str:
    """Return why checks of a metric never have a threshold from reference models.

    It is empty for other metrics.
    """
    metric = METRICS.get(name)
    if metric is None:
        return ""
    return metric.informational


def is_tolerated_at_first(name: str) -> bool:
    """Return whether a tolerance on a metric counts only until there is a threshold of a panel."""
    metric = METRICS.get(name)
    return metric is not None and metric.tolerated_at_first


def measure(metric: Metric) -> Callable[[Measure], Measure]:
    """Declare a metric of your own, as a decorator of its function.

    Reading a checks file then validates rows with this metric. Raises `InputError` for a name that
    is taken.
    """

    def declared(function: Measure) -> Measure:
        METRICS.add(metric.name, metric, declared_by=function)
        return function

    return declared
