"""The order of a predictor's classes: declared by names, and verified by predictions of clean images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import linear_sum_assignment

from harness.base.errors import UnusableModelError, some_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.inference.predictions import Predictions

_LEAST = 5
"""Least images of a class for a statement on the order."""


def order_of(names: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """Return the positions of the data's classes in a predictor's order, (classes,) int64.

    Raises `InputError` unless the names are those of the data, each once.
    """
    lacking = [each for each in classes if each not in names]
    unknown = [each for each in names if each not in classes]
    if lacking or unknown or len(set(names)) < len(names):
        twice = sorted({each for each in names if list(names).count(each) > 1})
        facts = (("lacks", lacking), ("has besides", unknown), ("has twice", twice))
        found = ", ".join(f"{word} {some_of(values)}" for word, values in facts if values)
        raise UnusableModelError(
            f"the predictor names other classes than the data: it {found}; name its classes in its own order, with the "
            f"data's names: {some_of(classes)}",
            setting="classes",
        )
    return np.array([list(names).index(each) for each in classes], dtype=np.int64)


def expect_order(predictions: Predictions, order: np.ndarray | None = None) -> None:
    """Raise `InputError` if a permutation of classes explains the predictions of clean images.

    In such a permutation, most images of every moved class are predicted as the class in its place. `order` has the
    assumed positions of the data's classes, (classes,) int64; None for the same positions.
    """
    classes, labels = predictions.classes, predictions.labels
    table = np.zeros((len(classes), len(classes)), dtype=np.int64)
    np.add.at(table, (labels, predictions.predicted), 1)
    _, seen_as = linear_sum_assignment(table, maximize=True)
    counts = table.sum(axis=1)
    moved = [at for at in range(len(classes)) if seen_as[at] != at and counts[at]]
    if not moved or any(counts[at] < _LEAST or table[at, seen_as[at]] * 2 <= counts[at] for at in moved):
        return
    said = [f"{classes[at]} as {classes[seen_as[at]]} ({table[at, seen_as[at]]} of {counts[at]})" for at in moved]
    own = np.empty(len(classes), dtype=object)
    own[(np.arange(len(classes)) if order is None else order)[seen_as]] = classes
    raise UnusableModelError(
        f"its classes are in another order: it predicts most clean images of {some_of(said)}; name its classes in "
        f"its own order: {','.join(own)}",
        setting="classes",
    )
