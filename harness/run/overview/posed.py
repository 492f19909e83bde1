"""How good a model is on images turned, moved and half covered."""

from __future__ import annotations

import numpy as np

from harness.measures import accuracy
from harness.measures.statistics import mean_interval
from harness.perturb import Pose, promised_corners
from harness.perturb.backgrounds import SIDES, Covered
from harness.run.overview.part import Part, Subject, rate_of
from harness.run.overview.results import Rate
from harness.store.records import record

DEGREES = (-30.0, -20.0, -15.0, -10.0, -5.0, 0.0, 5.0, 10.0, 15.0, 20.0, 30.0)
SHIFTS = (-4.0, -2.0, 0.0, 2.0, 4.0)


@record
class Turned:
    """Accuracy at each of `Overview.degrees`."""

    rotation: tuple[Rate, ...]


@record
class Moved:
    """Accuracy at shifts and at the promised poses' corners.

    `shift` has a row for each dy and a column for each dx of `Overview.shifts`. `corners` is the mean accuracy.
    `covered` is the share of answers that change when a side of the image is blacked out.
    """

    shift: tuple[tuple[Rate, ...], ...]
    corners: Rate
    covered: dict[str, float]


def _turned(subject: Subject) -> Turned:
    return Turned(tuple(rate_of(accuracy(subject.model.predict(subject.sample, Pose(degrees)))) for degrees in DEGREES))


def _moved(subject: Subject) -> Moved:
    model, sample, fewer = subject.model, subject.sample, subject.fewer
    right = np.stack([model.predict(sample, corner).correct for corner in promised_corners()]).mean(axis=0)
    # Answers about one image go together, so that there are only as many as images.
    low, high = mean_interval(right, (0.0, 1.0))
    before = model.predict(sample).predicted
    changed = {side: model.predict(sample, Covered(side)).predicted != before for side in SIDES}
    return Moved(
        shift=tuple(
            tuple(rate_of(accuracy(model.predict(fewer, Pose(dx=dx, dy=dy)))) for dx in SHIFTS) for dy in SHIFTS
        ),
        corners=Rate(float(right.mean()), low, high, len(right)),
        covered={side: float(answers.mean()) for side, answers in changed.items()},
    )


TURNED = Part(Turned, _turned)
MOVED = Part(Moved, _moved)
