"""Disagreements on images without labels: counts, and their thresholds from the reference models on these images."""

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
"""Images that are counted in place of all: those of the worst class, or of the worst group of any column."""
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
    f"unlabeled-{name}{f'-{part}' if part else ''}": (metric, part)
    for name, metric in (("unanimous", UNANIMOUS_DISAGREEMENTS), ("churn", CHURN))
    for part in (None, "class", "group")
}
"""The checks by their ids."""


def unanimous(votes: np.ndarray) -> np.ndarray:
    """Return the class that all K models predict, from (K, N) classes; `OF_NO_CLASS` for other images, (N,) int64."""
    return np.where((votes == votes[0]).all(axis=0), votes[0], OF_NO_CLASS)


def against(predicted: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Return which predictions differ from the expected class, (N,) bool; images of no class do not differ."""
    return np.asarray((expected != OF_NO_CLASS) & (predicted != expected))


def most_of_a_part(
    differ: np.ndarray, expected: np.ndarray, groups: Mapping[str, np.ndarray], part: Part | None
) -> tuple[int, int | tuple[str, str] | None, np.ndarray]:
    """Return the number of differing images of all or of the worst part, that part, and which images it has."""
    if part is None:
        return int(differ.sum()), None, differ
    columns = {"": expected} if part == "class" else groups
    best: tuple[int, int | tuple[str, str] | None, np.ndarray] = (0, None, np.zeros_like(differ))
    for column, values in columns.items():
        names, counts = np.unique(values[differ], return_counts=True)
        if len(names) and (most := int(counts.max())) > best[0]:
            name = names[counts.argmax()]
            best = (
                most,
                int(name) if part == "class" else (column, str(name)),
                differ & (values == name),
            )
    return best


def unanimous_disagreements(predictions: Predictions, *, part: Part | None = None) -> Measurement:
    """Return the number of predictions against the class on which all reference models agree: the images' label.

    Of a `part`, it is the number of the worst class or group.
    """
    return _measured(
        UNANIMOUS_DISAGREEMENTS, predictions, predictions.labels, part, "the reference models"
    )


def churn(
    predictions: Predictions, incumbent: Predictions, *, part: Part | None = None
) -> Measurement:
    """Return the number of predictions other than the incumbent's, see `unanimous_disagreements`."""
    return _measured(CHURN, predictions, incumbent.predicted, part, "the incumbent")


def _measured(
    metric: Metric, predictions: Predictions, expected: np.ndarray, part: Part | None, whom: str
) -> Measurement:
    if part == "group" and not predictions.images.groups:
        raise NotApplicableError(
            "the images without labels have no groups; groups.csv in their folder names them"
        )
    differ, classes = against(predictions.predicted, expected), predictions.classes
    count, where, chosen = most_of_a_part(differ, expected, predictions.images.groups, part)
    detail = (
        f"of {int((expected != OF_NO_CLASS).sum()):,} on which {whom} agree"
        if metric is not CHURN
        else ""
    )
    if where is not None:
        named = (
            f"{where[0]} {where[1]}"
            if isinstance(where, tuple)
            else f"class {classes[where]} by {whom}"
        )
        detail = f"of {named}; {int(differ.sum()):,} of all"
    failures = likely_most_confident(predictions, chosen)
    return count_of(metric, count, len(differ), detail=detail, failures=failures)


def thresholds_on(
    votes: np.ndarray, groups: Mapping[str, np.ndarray], rows: Sequence[str] = tuple(ROWS)
) -> dict[str, Calibrated]:
    """Return the thresholds of rows from the classes that K reference models predict for these images, (K, N).

    Each model is measured by the agreement of the others. Its incumbent is the next model, so no two pairs share both.
    Few models agree on more images than all of them. A count of theirs is corrected as for the consensus set.
    """
    count, n = votes.shape
    values: list[dict[str, int | float]] = []
    for at, own in enumerate(votes):
        others, following = unanimous(np.delete(votes, at, axis=0)), votes[(at + 1) % count]
        found: dict[str, int | float] = {}
        for name in rows:
            metric, part = ROWS[name]
            expected = following if metric is CHURN else others
            found[name] = most_of_a_part(against(own, expected), expected, groups, part)[0]
            if metric is not CHURN and part is None and count in CORRECTED:
                found[name] *= (count - 1) / count
        values.append(found)
    checks = tuple(
        PanelCheck(name, "unlabeled", ROWS[name][0].name, Unit.IMAGES, "at_most", n, scale="root")
        for name in rows
    )
    models = tuple(ReferenceModel(str(at), "", None, each) for at, each in enumerate(values))
    panel = Panel("", PROTOCOL, {}, checks, models)
    return {item.check.id: item for item in family_thresholds(panel, checks)}
