"""Which mistakes a model makes: how many of each kind, at rest and moved, which persist, and which are new."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.measures.failures import PersistentFailures, changed_positions, compared_at, persistent_failures
from harness.perturb import promised_corners
from harness.run.overview.part import Part, Subject
from harness.run.overview.results import Changes, KindChange
from harness.store.records import record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.data import LabelledImages
    from harness.inference import RoleModel
    from harness.measures.failures import FailureKind

NEW_SHOWN = 20
"""New failures that an overview names, each with what both models say."""


@record
class KindCount:
    """Failures of one kind: how many there are of all images at rest, and their share, in [0, 1], of a sample moved.

    Moved means all eight corners of the promised poses.
    """

    kind: str
    count: int
    moved: float


@record
class Failing:
    """How many failures of each kind there are, and what is wrong at most of the promised poses' corners and rest."""

    failures: tuple[KindCount, ...] = ()
    persistent: PersistentFailures | None = None


def _failing(subject: Subject) -> Failing:
    model, sample = subject.model, subject.sample
    rest = model.predict(subject.images)
    moved = [model.predict(sample, corner) for corner in promised_corners()]
    views = np.stack([each.predicted for each in (model.predict(sample), *moved)], axis=1)
    return Failing(
        tuple(
            KindCount(
                kind.name,
                int(kind.among(rest).sum()),
                float(np.mean([kind.among(each).mean() for each in moved])),
            )
            for kind in subject.kinds
        ),
        persistent_failures(sample, views),
    )


def changes_between(
    model: RoleModel, reference: RoleModel, images: LabelledImages, kinds: Sequence[FailureKind], *, against: str
) -> Changes:
    """Compare a model's failures on images as they are with those of the one named `against`; `kinds[0]` is any."""
    import torch

    mine, theirs = model.predict(images), reference.predict(images)
    found = [(kind.name, changed_positions(mine, theirs, kind)) for kind in kinds]
    # The few images alone, since what the other model says of them costs another pass where it is right.
    named = images.take(torch.from_numpy(found[0][1][0][:NEW_SHOWN]))
    return Changes(
        against=against,
        by_kind=tuple(KindChange(name, *map(len, positions)) for name, positions in found),
        new_failures=compared_at(model.predict(named), reference.predict(named), np.arange(len(named)))
        if len(named)
        else (),
    )


FAILING = Part(Failing, _failing)
