"""Disagreements on images without labels: counts, and thresholds from the reference models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from harness.base.errors import NotApplicableError
from harness.calibration.panel import Panel, ReferenceModel
from harness.calibration.thresholds import family_thresholds
from harness.data.sources import OF_NO_CLASS
from harness.measures import Measurement, Metric, Unit
from harness.measures.metric import count_of
from harness.measures.panel.predictions import CORRECTED
from harness.measures.panel.threshold import PanelCheck
from harness.measures.selection import likely_most_confident
from harness.perturb import PROTOCOL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.inference import Predictions
    from harness.measures.panel.threshold import Calibrated

Part = Literal["class", "group"]
"""Images that are counted in place of all: those of the worst class or group."""
UNANIMOUS_DISAGREEMENTS = Metric(
    "unanimous_disagreements",
    Unit.IMAGES,
    better="less",
    scale="root",
    words="predictions against the unanimous reference models",
)
CHURN = Metric(
    "churn",
    Unit.IMAGES,
    better="less",
    scale="root",
    words="predictions other than the incumbent's",
)
ROWS: Mapping[str, tuple[Metric, Part | None]] = {
    "unlabeled-unanimous": (UNANIMOUS_DISAGREEMENTS, None),
    "unlabeled-unanimous-class": (UNANIMOUS_DISAGREEMENTS, "class"),
    "unlabeled-unanimous-group": (UNANIMOUS_DISAGREEMENTS, "group"),
    "unlabeled-churn": (CHURN, None),
    "unlabeled-churn-class": (CHURN, "class"),
    "unlabeled-churn-group": (CHURN, "group"),
}
"""The checks by their ids."""


def unanimous(votes: np.ndarray) -> np.ndarray:
    """Return the class that all models predict, `OF_NO_CLASS` for images on which they disagree.

    Args:
        votes: The predicted classes of K models, (K, N).

    Returns:
        Classes, (N,) int64.
    """
    agree = (votes == votes[0]).all(axis=0)
    return np.where(agree, votes[0], OF_NO_CLASS)


def against(predicted: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Return which predictions differ from the expected class, (N,) bool.

    Images of no class do not differ.
    """
    return np.asarray((expected != OF_NO_CLASS) & (predicted != expected))


def most_of_a_part(
    differ: np.ndarray, expected: np.ndarray, groups: Mapping[str, np.ndarray], part: Part | None
) -> tuple[int, int | tuple[str, str] | None, np.ndarray]:
    """Count the differing images, of all or of the worst part.

    Args:
        differ: Which predictions differ, (N,) bool.
        expected: The expected classes, (N,).
        groups: The names of the images' groups, (N,), by column.
        part: Which parts are counted; None for all images.

    Returns:
        The count, the worst part (a class, or a column and a group) and which images are counted.
    """
    if part is None:
        return int(differ.sum()), None, differ

    worst: tuple[int, int | tuple[str, str] | None, np.ndarray] = (0, None, np.zeros_like(differ))
    columns = {"": expected} if part == "class" else groups
    for column, values in columns.items():
        names, counts = np.unique(values[differ], return_counts=True)
        if not len(names) or counts.max() <= worst[0]:
            continue

        name = names[counts.argmax()]
        where = int(name) if part == "class" else (column, str(name))
        worst = (int(counts.max()), where, differ & (values == name))
    return worst


def unanimous_disagreements(predictions: Predictions, *, part: Part | None = None) -> Measurement:
    """Return the number of predictions against the class on which all reference models agree.

    That class is the images' label. Of a `part`, it is the number of the worst class or group.
    """
    labels = predictions.labels
    return _counted(UNANIMOUS_DISAGREEMENTS, predictions, labels, part, "the reference models")


def churn(
    predictions: Predictions, incumbent: Predictions, *, part: Part | None = None
) -> Measurement:
    """Return the number of predictions other than the incumbent's, of all or of the worst part."""
    return _counted(CHURN, predictions, incumbent.predicted, part, "the incumbent")


def _counted(
    metric: Metric, predictions: Predictions, expected: np.ndarray, part: Part | None, whom: str
) -> Measurement:
    """Count the predictions that differ from the expected classes, with the images behind them."""
    groups = predictions.images.groups
    if part == "group" and not groups:
        raise NotApplicableError(
            "the images without labels have no groups; groups.csv in their folder names them"
        )

    differ = against(predictions.predicted, expected)
    count, where, counted = most_of_a_part(differ, expected, groups, part)

    detail = ""
    if isinstance(where, tuple):
        detail = f"of {where[0]} {where[1]}; {int(differ.sum()):,} of all"
    elif where is not None:
        detail = f"of class {predictions.classes[where]} by {whom}; {int(differ.sum()):,} of all"
    elif metric is not CHURN:
        detail = f"of {int((expected != OF_NO_CLASS).sum()):,} on which {whom} agree"

    failures = likely_most_confident(predictions, counted)
    return count_of(metric, count, len(differ), detail=detail, failures=failures)


def thresholds_on(
    votes: np.ndarray, groups: Mapping[str, np.ndarray], rows: Sequence[str] = tuple(ROWS)
) -> dict[str, Calibrated]:
    """Return the thresholds of rows by their ids, from reference models on the same images.

    Each reference model is measured by the agreement of the others. Its incumbent is the next
    model, so that no two pairs share both.

    Args:
        votes: The predicted classes of K reference models, (K, N).
        groups: The names of the images' groups, (N,), by column.
        rows: The ids of the rows.
    """
    values = [_values_of_model(votes, model, groups, rows) for model in range(len(votes))]
    n = votes.shape[1]
    checks = tuple(
        PanelCheck(name, "unlabeled", ROWS[name][0].name, Unit.IMAGES, "at_most", n, scale="root")
        for name in rows
    )
    models = tuple(
        ReferenceModel(str(number), "", None, of_rows) for number, of_rows in enumerate(values)
    )
    panel = Panel("", PROTOCOL, {}, checks, models)
    return {item.check.id: item for item in family_thresholds(panel, checks)}


def _values_of_model(
    votes: np.ndarray, model: int, groups: Mapping[str, np.ndarray], rows: Sequence[str]
) -> dict[str, int | float]:
    """Return the counts of a reference model, measured by the others, by the ids of rows."""
    count = len(votes)
    by_others = unanimous(np.delete(votes, model, axis=0))
    by_next = votes[(model + 1) % count]

    values: dict[str, int | float] = {}
    for name in rows:
        metric, part = ROWS[name]
        expected = by_next if metric is CHURN else by_others
        differ = against(votes[model], expected)
        values[name] = most_of_a_part(differ, expected, groups, part)[0]

        # Few models agree on more images than all of them, as for the consensus set.
        if metric is not CHURN and part is None and count in CORRECTED:
            values[name] *= (count - 1) / count
    return values
