"""Distances of networks on Fashion-MNIST from the shipped models, and the threshold."""

from __future__ import annotations

import math

import numpy as np

from benchmarks.fingerprint.measure import Measured
from benchmarks.runner import ROOT, table
from harness.checks import read_checks
from harness.features.fingerprint.distance import distance_from


def fashion_table(measured: Measured) -> str:
    """Return distances of the reference models, each from the others, and of other networks."""
    reference = measured.healthy
    left_out = [
        distance_from(own, np.delete(reference, position, axis=0), measured.kinds)[0]
        for position, own in enumerate(reference)
    ]
    threshold = _threshold()
    rows = [
        (
            f"{len(left_out)} reference models",
            f"{min(left_out):.2f} to {max(left_out):.2f}",
            "",
            _fails(0),
        )
    ]
    for name, own in measured.others.items():
        distance, deviations = distance_from(own, reference, measured.kinds)
        rows.append(
            (
                name,
                f"{distance:.2f}",
                f"{np.abs(deviations).max():.1f}",
                _fails(distance - threshold),
            )
        )
    head = ("network", "distance", "largest deviation", f"fails (threshold {threshold:.2f})")
    return table(head, rows)


def _fails(excess: float) -> str:
    return "yes" if excess > 0 else "no"


def _threshold() -> float:
    (check,) = read_checks(ROOT / "stress_tests/checks.toml").family("fingerprint")
    assert check.panel is not None
    return math.exp(check.panel.threshold)
