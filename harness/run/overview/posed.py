"""A model on images rotated, translated and half covered, and the first failure along paths of poses."""

from __future__ import annotations

from dataclasses import field

import numpy as np

from harness.base.records import record
from harness.measures import accuracy, robust_accuracy
from harness.measures.statistics import mean_interval
from harness.perturb import Pose, augmentation_range_corners, augmentation_range_poses
from harness.perturb.backgrounds import SIDES, Covered
from harness.perturb.grids import PATHS
from harness.run.overview.part import Part, Rate, Subject, rate_of

DEGREES = (-30.0, -20.0, -15.0, -10.0, -5.0, 0.0, 5.0, 10.0, 15.0, 20.0, 30.0)
SHIFTS = (-4.0, -2.0, 0.0, 2.0, 4.0)


@record
class Turned:
    """Accuracy at each of `Overview.degrees`."""

    rotation: tuple[Rate, ...] = ()


@record
class Moved:
    """Mean accuracy at the augmentation range's corners; None where it was left out.

    `covered` is the share of predictions that change when a side of the image is blacked out.
    """

    corners: Rate | None = None
    covered: dict[str, float] = field(default_factory=dict)


@record
class Shifted:
    """Accuracy at shifts: a row for each dy and a column for each dx of `Overview.shifts`."""

    shift: tuple[tuple[Rate, ...], ...] = ()


def _turned(subject: Subject) -> Turned:
    return Turned(tuple(rate_of(accuracy(subject.model.predict(subject.sample, Pose(degrees)))) for degrees in DEGREES))


def _moved(subject: Subject) -> Moved:
    model, sample = subject.model, subject.sample
    right = np.stack([model.predict(sample, corner).correct for corner in augmentation_range_corners()]).mean(axis=0)
    # Predictions for one image depend on each other, so n is the number of images.
    low, high = mean_interval(right, (0.0, 1.0))
    before = model.predict(sample).predicted
    changed = {side: model.predict(sample, Covered(side)).predicted != before for side in SIDES}
    return Moved(
        corners=Rate(float(right.mean()), low, high, len(right)),
        covered={side: float(answers.mean()) for side, answers in changed.items()},
    )


def _shifted(subject: Subject) -> Shifted:
    model, fewer = subject.model, subject.fewer
    return Shifted(
        tuple(tuple(rate_of(accuracy(model.predict(fewer, Pose(dx=dx, dy=dy)))) for dx in SHIFTS) for dy in SHIFTS)
    )


@record
class Survival:
    """Share of correct clean predictions that are still correct at all poses up to each severity of a path."""

    path: str
    unit: str
    n: int
    severities: tuple[float, ...]
    shares: tuple[float, ...]


@record
class RobustAccuracy:
    """Robust accuracy over the augmentation range, as a number of images; None if it was not measured."""

    robust_accuracy: Rate | None = None


@record
class Surviving:
    """A survival curve for each path away from the clean image; none without a search."""

    survival: tuple[Survival, ...] = ()


def _robust_accuracy(subject: Subject) -> RobustAccuracy:
    from harness.inference.search import first_failures
    from harness.perturb.grids import most_dangerous_first

    if subject.robust is None:
        return RobustAccuracy()
    poses = most_dangerous_first(augmentation_range_poses())
    return RobustAccuracy(rate_of(robust_accuracy(first_failures(subject.model.classifier, subject.robust, poses))))


def _surviving(subject: Subject) -> Surviving:
    from harness.inference.search import breaking

    if subject.survival is None:
        return Surviving()
    curves = [breaking(subject.model.classifier, subject.survival, PATHS[name]) for name in ("rotation", "shift")]
    return Surviving(
        tuple(
            Survival(curve.path.name, curve.path.unit, len(curve.severity), *map(_floats, curve.survival()))
            for curve in curves
            if len(curve.severity)
        )
    )


def _floats(values: np.ndarray) -> tuple[float, ...]:
    return tuple(map(float, values))


_CORNERS, _GRID = len(augmentation_range_corners()), len(augmentation_range_poses())
_STEPS = sum(1 + len(PATHS[name].poses) for name in ("rotation", "shift"))

MOVED = Part(Moved, _moved, "accuracy rotated and translated", _CORNERS + len(SIDES) + 1)
TURNED = Part(Turned, _turned, "accuracy against rotation", len(DEGREES))
SHIFTED = Part(Shifted, _shifted, "accuracy by translation", len(SHIFTS) ** 2)
ROBUST_ACCURACY = Part(RobustAccuracy, _robust_accuracy, "robust accuracy", _GRID)
SURVIVING = Part(Surviving, _surviving, "survival curves", _STEPS)
