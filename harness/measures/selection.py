"""Choice of images: those of a class, a group or a confusion, and their order."""

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
    """Return which images are of this class, or all, as `of_class` does.

    Raises:
        InputError: There is no such image, or no such class, to measure `what` on.
    """
    chosen = of_class(predictions, name)
    if not chosen.any():
        raise InputError(f"{what}: none of the {len(chosen)} images is of class {name or 'any'!r}")
    return chosen


def confused(predictions: Predictions, true: str, taken: str) -> np.ndarray:
    """Return which images of the class `true` are predicted as `taken`, (N,) bool.

    Raises `InputError` for a class that the data lack.
    """
    of_class(predictions, taken)  # Raises for an unknown class.
    predicted_so = predictions.predicted == predictions.classes.index(taken)
    return np.asarray(of_class(predictions, true) & predicted_so)


def column(predictions: Predictions, by: str) -> np.ndarray:
    """Return the group of each image in a column of the data.

    Raises `InputError` for a column that the data lack.
    """
    groups = predictions.images.groups
    if by not in groups:
        columns = ", ".join(groups) or "no groups"
        raise InputError(f"groups by {by!r}: the data have {columns}; name one of these columns")
    return groups[by]


def expect_same_images(
    what: str, first: Predictions, *others: Predictions, alike: bool = True
) -> None:
    """Raise `InputError` unless all predictions are of the same images.

    Without `alike`, the images may look different, as before and after a change.
    """
    for other in others:
        if alike:
            same = first.images.sha256 == other.images.sha256
        else:
            same = first.images.positions.tolist() == other.images.positions.tolist()
        if not same:
            raise InputError(
                f"{what}: {len(first.labels)} and {len(other.labels)} images that are not the "
                "same, so their predictions cannot be compared; use the same images for both"
            )


def ordered(which: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Return the positions of the marked images by an ascending value of each, (M,) int64.

    >>> import numpy as np
    >>> ordered(np.array([True, False, True]), np.array([0.9, 0.5, 0.1]))
    array([2, 0])

    Args:
        which: The marked images, (N,) bool.
        by: The value of each image, (N,); equal values stay in the order of the images.
    """
    positions = np.flatnonzero(which)
    return np.asarray(positions[np.argsort(by[positions], kind="stable")])


def most_confident(predictions: Predictions, failures: np.ndarray) -> np.ndarray:
    """Return the positions of the failures by decreasing confidence, if it is known.

    `failures`, (N,) bool, are all wrong.
    """
    if not predictions.has_confidence:
        return np.flatnonzero(failures)
    return ordered(failures, -predictions.confidence_of_errors())


def likely_most_confident(predictions: Predictions, failures: np.ndarray) -> np.ndarray:
    """Return the positions of the failures, (N,) bool, by decreasing approximate confidence.

    It costs no forward pass.
    """
    return ordered(failures, -predictions.confidence_as_answered)


def commonest(
    before: np.ndarray, now: np.ndarray, which: np.ndarray
) -> tuple[tuple[int, int], int] | None:
    """Return the most frequent pair of classes of the marked images, with its count.

    Of equally frequent pairs it is the first. None without marked images, (N,) bool.
    """
    pairs = Counter(zip(before[which].tolist(), now[which].tolist(), strict=True))
    if not pairs:
        return None
    return pairs.most_common(1)[0]
