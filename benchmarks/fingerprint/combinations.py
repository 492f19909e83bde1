"""Combinations of weight statistics into one distance, their false alarms and detections."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.fingerprint.measure import Measured
from benchmarks.runner import few, table
from harness.calibration.shares import share_of
from harness.calibration.thresholds import multiplier
from harness.features.fingerprint.distance import distance_from
from harness.measures.panel.threshold import FEW, widened

Distance = Callable[[np.ndarray, np.ndarray, np.ndarray], float]
"""The distance of statistics, (S,), from those of K models, (K, S), given the kind of each, (S,).
"""
REFERENCE_MODELS = (3, 5, 8, 20)[:: few(1, 2)]
ALARMS = 0.01
SHARE = share_of("fingerprint", ["fingerprint"])
"""The family's share of the 1% in a gate of few families."""


def plain(own: np.ndarray, others: np.ndarray, kinds: np.ndarray) -> float:  # noqa: ARG001
    """Return the root mean square of standardized statistics."""
    std = np.sqrt(np.maximum(others.var(axis=0, ddof=1), 1e-6))
    deviations = (own - others.mean(axis=0)) / (std * widened(len(others)))
    return float(np.sqrt(np.square(deviations).mean()))


def moderated(own: np.ndarray, others: np.ndarray, kinds: np.ndarray) -> float:
    """Return the root mean square with variances moderated within each kind."""
    _, deviations = distance_from(own, others, kinds)
    return float(np.sqrt(np.square(deviations).mean()))


def largest(own: np.ndarray, others: np.ndarray, kinds: np.ndarray) -> float:
    """Return the largest standardized statistic, with moderated variances."""
    _, deviations = distance_from(own, others, kinds)
    return float(np.abs(deviations).max())


def shrunk(own: np.ndarray, others: np.ndarray, kinds: np.ndarray) -> float:
    """Return the distance that the gate measures: moderated variances and a shrunk covariance."""
    return distance_from(own, others, kinds)[0]


COMBINATIONS: Mapping[str, Distance] = {
    "root mean square": plain,
    "moderated": moderated,
    "largest, moderated": largest,
    "moderated, shrunk covariance": shrunk,
}


@dataclass(frozen=True, eq=False)
class Splits:
    """Logarithms of distances over random sets of K reference models.

    Of other healthy networks and of each fault.

    A split's `threshold` is that of the decision rule, NaN for fewer than eight models.
    """

    healthy: np.ndarray
    faults: Mapping[str, np.ndarray]
    thresholds: np.ndarray

    @property
    def false_alarms(self) -> float:
        """Return the share of healthy networks that fail by the decision rule."""
        return float((self.healthy > self.thresholds[:, None]).mean())

    def detected(self, fault: str) -> float:
        """Return the share of networks with a fault that fail by the decision rule."""
        return float((self.faults[fault] > self.thresholds[:, None]).mean())

    def detected_at(self, fault: str, alarms: float) -> float:
        """Return that share for a threshold that fails so many of the healthy networks."""
        return float((self.faults[fault] > np.quantile(self.healthy, 1 - alarms)).mean())


def splits_of(
    measured: Measured, reference_models: int, distance: Distance, *, splits: int
) -> Splits:
    """Return the distances over random sets of so many reference models."""
    rng = np.random.default_rng(0)
    healthy, faults, thresholds = [], [], []
    networks, kinds = measured.healthy, measured.kinds
    of_faults = np.concatenate(list(measured.faults.values()))
    for _ in range(splits):
        order = rng.permutation(len(networks))
        panel, others = networks[order[:reference_models]], networks[order[reference_models:]]
        healthy.append(_logs(others, panel, kinds, distance))
        faults.append(_logs(of_faults, panel, kinds, distance))
        thresholds.append(_threshold(panel, kinds, distance))
    counts = np.cumsum([len(values) for values in measured.faults.values()])[:-1]
    by_fault = np.split(np.array(faults), counts, axis=1)
    return Splits(
        np.array(healthy), dict(zip(measured.faults, by_fault, strict=True)), np.array(thresholds)
    )


def _logs(
    networks: np.ndarray, panel: np.ndarray, kinds: np.ndarray, distance: Distance
) -> list[float]:
    return [math.log(max(distance(own, panel, kinds), 1e-12)) for own in networks]


def _threshold(panel: np.ndarray, kinds: np.ndarray, distance: Distance) -> float:
    count = len(panel)
    if count < FEW:
        return math.nan
    values = []
    for position, own in enumerate(panel):
        values += _logs(own[None], np.delete(panel, position, axis=0), kinds, distance)
    k = float(multiplier(SHARE, reference_models=count))
    return float(np.mean(values) + k * np.std(values, ddof=1) * widened(count))


def combinations_table(cases: Mapping[str, Measured], *, splits: int) -> str:
    """Return a line for each combination and number of reference models.

    The mean over the faults of all cases.
    """
    rows = []
    for name, distance in COMBINATIONS.items():
        for count in REFERENCE_MODELS:
            over = [
                splits_of(measured, count, distance, splits=splits) for measured in cases.values()
            ]
            alarms = np.mean([each.false_alarms for each in over])
            detected = np.mean([each.detected(fault) for each in over for fault in each.faults])
            at_alarms = np.mean(
                [each.detected_at(fault, ALARMS) for each in over for fault in each.faults]
            )
            by_rule = ("–", "–") if count < FEW else (f"{alarms:.1%}", f"{detected:.0%}")
            rows.append((name, f"{count}", *by_rule, f"{at_alarms:.0%}"))
    return table(
        ("combination", "K", "false alarms", "detected", f"detected at {ALARMS:.0%} alarms"), rows
    )


def case_table(measured: Measured, *, splits: int) -> str:
    """Return a line for each number of reference models.

    False alarms, and the rate of detection of each fault.
    """
    rows = []
    for count in _counts(measured):
        over = splits_of(measured, count, shrunk, splits=splits)
        alarms = "–" if count < FEW else f"{over.false_alarms:.1%}"
        rows.append((f"{count}", alarms, *(_rates(over, fault, count) for fault in over.faults)))
    return table(("K", "false alarms", *measured.faults), rows)


def _counts(measured: Measured) -> Sequence[int]:
    return [count for count in REFERENCE_MODELS if count < len(measured.healthy)]


def _rates(over: Splits, fault: str, count: int) -> str:
    at_alarms = f"{over.detected_at(fault, ALARMS):.0%}"
    return f"({at_alarms})" if count < FEW else f"{over.detected(fault):.0%} ({at_alarms})"
