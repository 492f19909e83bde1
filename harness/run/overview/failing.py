"""Errors of a model: their number by kind, clean and at the corners, and the persistent, new and fixed ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.base.records import record
from harness.measures.failures import Comparison, changed_positions, compared_at
from harness.measures.worst_poses import PersistentFailures, persistent_failures
from harness.perturb import augmentation_range_corners
from harness.run.overview.part import Part, Subject
from harness.run.overview.posed import Moved

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.data import LabelledImages
    from harness.inference import RoleModel
    from harness.measures.failures import FailureKind

CHANGED_SHOWN = 27
"""New failures, and fixed ones, that an overview names, each with the predictions of both models."""


@record
class KindCount:
    """Failures of one kind: their number on all clean images, and their share, in [0, 1], on a sample `moved`.

    Moved means all eight corners of the augmentation range; None where these were left out.
    """

    kind: str
    count: int
    moved: float | None


@record
class Failing:
    """Number of failures of each kind, and images wrong at most of the augmentation range's corners and rest."""

    failures: tuple[KindCount, ...] = ()
    persistent: PersistentFailures | None = None


def _failing(subject: Subject) -> Failing:
    model, sample = subject.model, subject.sample
    rest = model.predict(subject.images)
    if Moved in subject.without:
        return Failing(tuple(KindCount(kind.name, int(kind.among(rest).sum()), None) for kind in subject.kinds))
    moved = [model.predict(sample, corner) for corner in augmentation_range_corners()]
    views = [model.predict(sample), *moved]
    predicted = np.stack([each.predicted for each in views], axis=1)
    confidence = None
    if rest.has_confidence:
        confidence = np.stack([each.confidence_of_errors() for each in views], axis=1)
    return Failing(
        tuple(
            KindCount(
                kind.name,
                int(kind.among(rest).sum()),
                float(np.mean([kind.among(each).mean() for each in moved])),
            )
            for kind in subject.kinds
        ),
        persistent_failures(sample, predicted, confidence),
    )


@record
class KindChange:
    """Number of images that fail in one kind for this model only, for the other only, and for both."""

    kind: str
    new: int
    fixed: int
    shared: int


@record
class Changes:
    """Differences between the first model's failures on clean images and those of the model `against`.

    `new_failures` are of any kind, the most confident first, and only the first few; so are `fixed_failures`, which
    only the model before makes.
    """

    against: str
    by_kind: tuple[KindChange, ...]
    new_failures: tuple[Comparison, ...]
    fixed_failures: tuple[Comparison, ...] = ()


def changes_between(
    model: RoleModel, reference: RoleModel, images: LabelledImages, kinds: Sequence[FailureKind], *, against: str
) -> Changes:
    """Compare a model's failures on clean images with those of the one named `against`; `kinds[0]` is any."""
    mine, theirs = model.predict(images), reference.predict(images)
    found = [(kind.name, changed_positions(mine, theirs, kind)) for kind in kinds]
    new, fixed, _ = found[0][1]
    return Changes(
        against=against,
        by_kind=tuple(KindChange(name, *map(len, positions)) for name, positions in found),
        new_failures=_compared(model, reference, images, new[:CHANGED_SHOWN]),
        fixed_failures=_compared(model, reference, images, fixed[:CHANGED_SHOWN]),
    )


def _compared(
    model: RoleModel, reference: RoleModel, images: LabelledImages, positions: np.ndarray
) -> tuple[Comparison, ...]:
    """Return both predictions for a few images, asked alone: for all, the correct one would cost another pass."""
    import torch

    if not len(positions):
        return ()
    few = images.take(torch.from_numpy(positions))
    return compared_at(model.predict(few), reference.predict(few), np.arange(len(few)))


FAILING = Part(Failing, _failing)
