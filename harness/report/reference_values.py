"""Values of the reference models behind curves and dots, and the candidate's rates as its checks measured them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from harness.measures.accuracy import ACCURACY
from harness.perturb import IDENTITY, Pose
from harness.run.overview import Clean, Rate, Shifted, Turned

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.checks import Verdict
    from harness.run.overview import Overview


@dataclass(frozen=True)
class ReferenceValues:
    """Mean and standard deviation of the reference models' accuracy, as shares: by rotation in degrees, and by class.

    Empty without a reference panel.
    """

    by_degrees: Mapping[float, tuple[float, float]] = field(default_factory=dict)
    by_class: Mapping[str, tuple[float, float]] = field(default_factory=dict)


NO_VALUES = ReferenceValues()


def reference_values(verdicts: Sequence[Verdict]) -> ReferenceValues:
    """Return the values that the checks on the candidate's accuracy state of the reference models."""
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
    return ReferenceValues(by_degrees, by_class)


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
