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
        panel, pose = verdict.check.reference, verdict.check.pose
        if panel is None or panel.mean is None or panel.std is None:
            continue
        if verdict.check.class_name is not None:
            if pose == IDENTITY:
                by_class[verdict.check.class_name] = float(panel.mean), float(panel.std)
        elif pose == Pose(pose.degrees):
            by_degrees[float(pose.degrees)] = float(panel.mean), float(panel.std)
    known = {name: of_models for name, of_models in curves.items() if len(of_models) >= SETTLED}
    survival = {path: _band(of_models) for path in PATHS if (of_models := known.get(survival_name(path)))}
    reliability = known.get(RELIABILITY, ())
    counts = np.array([curve.counts for curve in reliability], dtype=np.float64)
    if not counts.size or not (full := counts.min(axis=0) >= FEW).any():  # Bins where every model has ten or more.
        return ReferenceValues(by_degrees, by_class, survival)
    shares = counts / counts.sum(axis=1, keepdims=True)
    return ReferenceValues(by_degrees, by_class, survival, _band(reliability, full), _band(reliability, full, shares))


def _band(curves: Sequence[Curve], some: np.ndarray | None = None, values: np.ndarray | None = None) -> Band:
    """Return the band of curves, or of other values (K, P) at their places, of all or `some` places, (P,) bool."""
    places = slice(None) if some is None else some
    at, own = (np.array([getattr(curve, name) for curve in curves], dtype=np.float64) for name in ("at", "values"))
    at, found = at[:, places], (own if values is None else values)[:, places]
    return Band(at.mean(axis=0), found.mean(axis=0), found.std(axis=0, ddof=1))


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
