"""Values of the reference models behind curves and dots, and the candidate's rates as its checks measured them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from harness.measures.accuracy import ACCURACY
from harness.measures.confidence import RELIABILITY
from harness.measures.worst_poses import survival_name
from harness.perturb import IDENTITY, Pose
from harness.perturb.grids import PATHS
from harness.run.outcome import SETTLED
from harness.run.overview import Clean, Rate, Shifted, Turned

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.checks import Verdict
    from harness.measures.metric import Curve
    from harness.run.overview import Overview

FEW = 10
"""Predictions of a bin of confidence from which on its accuracy says something."""


@dataclass(frozen=True, eq=False)
class Band:
    """Curves of the reference models: mean and standard deviation, (P,), at the places `at`, (P,)."""

    at: np.ndarray
    mean: np.ndarray
    std: np.ndarray


@dataclass(frozen=True)
class ReferenceValues:
    """Mean and standard deviation of the reference models, as shares; empty without a reference panel.

    `by_degrees` and `by_class` are of their accuracy. `survival` has a band by path. `reliability` is the band of
    accuracy against confidence, and `confidences` that of the share of predictions in each bin.
    """

    by_degrees: Mapping[float, tuple[float, float]] = field(default_factory=dict)
    by_class: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    survival: Mapping[str, Band] = field(default_factory=dict)
    reliability: Band | None = None
    confidences: Band | None = None


NO_VALUES = ReferenceValues()


def reference_values(verdicts: Sequence[Verdict], curves: Mapping[str, Sequence[Curve]]) -> ReferenceValues:
    """Return the values that the checks on the candidate's accuracy state of the reference models, and their curves.

    Fewer than three curves make no band, since their standard deviation says nothing.
    """
    by_degrees, by_class = {}, {}
    for verdict in _on_accuracy(verdicts):
        known, pose = verdict.check.reference, verdict.check.pose
        if known is None or known.mean is None or known.std is None:
            continue
        if verdict.check.class_name is not None:
            if pose == IDENTITY:
                by_class[verdict.check.class_name] = float(known.mean), float(known.std)
        elif pose == Pose(pose.degrees):
            by_degrees[float(pose.degrees)] = float(known.mean), float(known.std)
    known_curves = {name: of_models for name, of_models in curves.items() if len(of_models) >= SETTLED}
    survival = {
        path: _band(*_points(of_models)) for path in PATHS if (of_models := known_curves.get(survival_name(path)))
    }
    return ReferenceValues(by_degrees, by_class, survival, *_reliability(known_curves.get(RELIABILITY, ())))


def _band(at: np.ndarray, values: np.ndarray) -> Band:
    return Band(at.mean(axis=0), values.mean(axis=0), values.std(axis=0, ddof=1))


def _points(curves: Sequence[Curve]) -> tuple[np.ndarray, np.ndarray]:
    """Return places and values, (K, P) float64 each, with NaN for an empty bin."""
    at, values = ([getattr(curve, name) for curve in curves] for name in ("at", "values"))
    return np.array(at, dtype=np.float64), np.array(values, dtype=np.float64)


def _reliability(curves: Sequence[Curve]) -> tuple[Band | None, Band | None]:
    """Return the bands of accuracy and of the share of predictions, in the bins where every model has ten or more."""
    counts = np.array([curve.counts for curve in curves], dtype=np.float64)
    if not counts.size or not (known := counts.min(axis=0) >= FEW).any():
        return None, None
    at, accuracies = (each[:, known] for each in _points(curves))
    shares = counts / counts.sum(axis=1, keepdims=True)
    return _band(at, accuracies), _band(at, shares[:, known])


def as_checked(overview: Overview, verdicts: Sequence[Verdict]) -> Overview:
    """Return the overview with the candidate's accuracy at a pose as the check at this pose measured it.

    A check has more images than the sample of a curve, so each metric has one value on a page.
    """
    rates = {
        verdict.check.pose: Rate(verdict.value, *verdict.interval, verdict.n)
        for verdict in _on_accuracy(verdicts)
        if verdict.check.class_name is None and verdict.value is not None and verdict.interval is not None
    }
    first, *others = overview.models
    if not rates or "candidate" not in first.roles:
        return overview
    rates.setdefault(IDENTITY, first[Clean].accuracy)
    turned = zip(overview.degrees, first[Turned].rotation, strict=False)
    shifted = zip(overview.shifts, first[Shifted].shift, strict=False)
    parts = {
        Turned: Turned(tuple(rates.get(Pose(degrees), rate) for degrees, rate in turned)),
        Shifted: Shifted(
            tuple(
                tuple(rates.get(Pose(dx=dx, dy=dy), rate) for dx, rate in zip(overview.shifts, row, strict=True))
                for dy, row in shifted
            )
        ),
    }
    checked = replace(first, parts=tuple(parts.get(type(part), part) for part in first.parts))
    return replace(overview, models=(checked, *others))


def _on_accuracy(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Return the verdicts on the candidate's accuracy on clean images and on images under a pose alone."""
    return [
        verdict
        for verdict in verdicts
        if (verdict.check.role, verdict.metric) == ("candidate", ACCURACY.name)
        and verdict.check.family in {"clean", "class", "rotation", "shift"}
        and not any(value is not None for value in verdict.check.keys.values())
    ]
