"""Persistent failures: images that a model gets wrong at most of many poses."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.base.errors import InputError
from harness.base.records import record

if TYPE_CHECKING:
    from harness.data import LabelledImages


@record
class PersistentFailure:
    """An image that is wrong at `wrong_at` of the poses; `taken_for` is the most frequent wrong prediction.

    `confidence` is the mean of the wrong predictions, None if not measured.
    """

    index: int
    true: str
    wrong_at: int
    taken_for: str
    confidence: float | None = None


@record
class PersistentFailures:
    """The images, of `n`, that are wrong at more than half of the `poses`, the most persistent first."""

    n: int
    poses: int
    rows: tuple[PersistentFailure, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the table in plain types."""
        return asdict(self)

    def by_confidence(self) -> list[PersistentFailure]:
        """Return the images by decreasing confidence; without a confidence, in their own order."""
        return sorted(self.rows, key=lambda row: -(row.confidence or 0.0))

    def by_confusion(self) -> list[tuple[str, str, tuple[int, ...]]]:
        """Return the images' numbers by (true class, predicted class), the most frequent confusion first."""
        groups: dict[tuple[str, str], list[int]] = {}
        for row in self.rows:
            groups.setdefault((row.true, row.taken_for), []).append(row.index)
        ordered = sorted(groups.items(), key=lambda item: -len(item[1]))
        return [(true, taken_for, tuple(numbers)) for (true, taken_for), numbers in ordered]


def persistent_failures(
    images: LabelledImages, predicted: np.ndarray, confidence: np.ndarray | None = None
) -> PersistentFailures:
    """List the images that are wrong at more than half of the poses; `predicted` is (N, P) int, a column for each.

    `confidence` is that of each wrong prediction, (N, P) in [0, 1], and 0 elsewhere. Raises `InputError` for a matrix
    of another shape or without poses.
    """
    if predicted.ndim != 2 or predicted.shape[0] != len(images) or not predicted.shape[1]:  # noqa: PLR2004
        raise InputError(
            f"persistent failures: predictions have shape {predicted.shape}, expected ({len(images)}, poses), one or "
            "more"
        )
    labels, numbers = images.labels.numpy(), images.positions.numpy()
    correct = predicted == labels[:, None]
    wrong, poses = (~correct).sum(axis=1), predicted.shape[1]
    chosen = np.flatnonzero(2 * wrong > poses)
    rows = []
    for position in chosen[np.argsort(-wrong[chosen], kind="stable")]:
        votes = Counter(predicted[position][~correct[position]].tolist())
        taken_for = min(votes, key=lambda label: (-votes[label], label))
        names = images.classes[labels[position]], images.classes[taken_for]
        sure = None if confidence is None else float(confidence[position].sum() / wrong[position])
        rows.append(PersistentFailure(int(numbers[position]), names[0], int(wrong[position]), names[1], sure))
    return PersistentFailures(len(images), poses, tuple(rows))
