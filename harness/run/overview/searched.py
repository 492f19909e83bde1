"""How far an image can be turned and moved before it is lost: what only a search finds out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.measures import right_at_every_pose
from harness.perturb import promised_poses
from harness.run.overview.part import Part, Subject, rate_of
from harness.run.overview.results import Rate
from harness.store.records import record

if TYPE_CHECKING:
    import numpy as np


@record
class Survival:
    """The share of images, right as they are, that are still right at all poses up to each severity of a path."""

    path: str
    unit: str
    n: int
    severities: tuple[float, ...]
    shares: tuple[float, ...]


@record
class Everywhere:
    """How many images are right at every promised pose; None where nobody asked."""

    right_everywhere: Rate | None = None


@record
class Surviving:
    """A survival curve for each path away from rest; none where nobody asked."""

    survival: tuple[Survival, ...] = ()


def _everywhere(subject: Subject) -> Everywhere:
    from harness.inference.search import first_failures
    from harness.perturb.grids import most_dangerous_first

    if subject.everywhere is None:
        return Everywhere()
    poses = most_dangerous_first(promised_poses())
    return Everywhere(rate_of(right_at_every_pose(first_failures(subject.model.classifier, subject.everywhere, poses))))


def _surviving(subject: Subject) -> Surviving:
    from harness.inference.search import breaking
    from harness.perturb.grids import PATHS

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


EVERYWHERE = Part(Everywhere, _everywhere)
SURVIVING = Part(Surviving, _surviving)
