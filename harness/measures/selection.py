"""Choice of images: those of a class, a group or a confusion, the same ones of several predictions, and their order."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from harness.base.errors import InputError

if TYPE_CHECKING:
    from harness.inference import Predictions


def of_class(predictions: Predictions, name: str | None) -> np.ndarray:
    """Return which images are of this true class, (N,) bool; all of them for None.

    Raises `InputError` for a class that the data lack.
    """
    if name is None:
        return np.ones(len(predictions.labels), dtype=bool)
    if name not in predictions.classes:
        raise InputError(f"unknown class {name!r}; the data have {', '.join(predictions.classes)}")
    return np.asarray(predictions.labels == predictions.classes.index(name))


def members_of(predictions: Predictions, name: str | None, what: str) -> np.ndarray:
    """Return the images of this class, or all, as `of_class` does; raises `InputError` for `what` without any."""
    chosen = of_class(predictions, name)
    if not chosen.any():
        raise InputError(f"{what}: none of the {len(chosen)} images is of class {name or 'any'!r}")
    return chosen


def confused(predictions: Predictions, true: str, taken: str) -> np.ndarray:
    """Return which images of the class `true` are predicted as `taken`, (N,) bool; raises as `of_class` does."""
    of_class(predictions, taken)
    return np.asarray(
        of_class(predictions, true) & (predictions.predicted == predictions.classes.index(taken))
    )


def column(predictions: Predictions, by: str) -> np.ndarray:
    """Return the group of each image in a column of the data; raises `InputError` for one that the data lack."""
    groups = predictions.images.groups
    if by not in groups:
        known = ", ".join(groups) or "no groups"
        raise InputError(f"groups by {by!r}: the data have {known}; name one of these columns")
    return groups[by]


def expect_same_images(
    what: str, first: Predictions, *others: Predictions, alike: bool = True
) -> None:
    """Raise `InputError` unless all predictions are of the same images, which may look different unless `alike`."""
    for other in others:
        pairs = [
            (each.images.sha256 if alike else each.images.positions.tolist())
            for each in (first, other)
        ]
        if pairs[0] != pairs[1]:
            raise InputError(
                f"{what}: {len(first.labels)} and {len(other.labels)} images that are not the same, so their "
                "predictions cannot be compared; use the same images for both"
            )


def ordered(which: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Return the positions of the marked images, (N,) bool, by an ascending value of each, (M,) int64."""
    positions = np.flatnonzero(which)
    return np.asarray(positions[np.argsort(by[positions], kind="stable")])


def most_confident(predictions: Predictions, failures: np.ndarray) -> np.ndarray:
    """Return the positions of the failures, (N,) bool and all wrong, by decreasing confidence, if it is known."""
    known = predictions.has_confidence
    return (
        ordered(failures, -predictions.confidence_of_errors())
        if known
        else np.flatnonzero(failures)
    )


def likely_most_confident(predictions: Predictions, failures: np.ndarray) -> np.ndarray:
    """Return the positions of the failures, (N,) bool, by decreasing approximate confidence, without a forward pass."""
    return ordered(failures, -predictions.confidence_as_answered)


def commonest(
    before: np.ndarray, now: np.ndarray, which: np.ndarray
) -> tuple[tuple[int, int], int] | None:
    """Return the first most frequent pair of classes of the marked images, (N,) bool, with its count; None for none."""
    pairs = Counter(zip(before[which].tolist(), now[which].tolist(), strict=True))
    return next(iter(pairs.most_common(1)), None)
