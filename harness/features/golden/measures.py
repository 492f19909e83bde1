"""The measurement of one golden image: whether it is predicted correctly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.base.errors import InputError
from harness.measures.metric import Measurement, Metric, Unit, share_of

if TYPE_CHECKING:
    from harness.inference import Predictions

GOLDEN_RIGHT = Metric(
    "golden_right",
    Unit.SHARE,
    better="more",
    words="correct on this one image",
    about="whether one golden image is predicted correctly",
)


def golden_right(predictions: Predictions, image: int, *, because: str = "") -> Measurement:
    """Return 1 if the image at this position is predicted correctly, else 0.

    `because` is the reason for the check. Raises `InputError` for a position beyond the images.
    """
    if not 0 <= image < len(predictions.labels):
        raise InputError(
            f"golden image {image}: expected a position among {len(predictions.labels)} images"
        )
    position = np.array([image])
    label = predictions.classes[int(predictions.labels[image])]
    predicted = predictions.classes[int(predictions.predicted[image])]

    if predictions.correct[image]:
        failures = position[:0]
        detail = f"{label}, as it should be"
    else:
        failures = position
        detail = f"{label}, predicted as {predicted}"
    if predictions.has_confidence:
        confidence = float(predictions.probabilities_at(position).max())
        detail += f" ({confidence:.0%} confidence)"
    if because:
        detail += f"; {because}"
    return share_of(
        GOLDEN_RIGHT, predictions.correct[position], detail=detail, failures=failures, each=None
    )
