"""One image that must never be wrong again: whether it is right."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.errors import InputError
from harness.measures.metric import Measurement, Metric, Unit
from harness.measures.statistics import proportion_interval

if TYPE_CHECKING:
    from harness.inference import Predictions

GOLDEN_RIGHT = Metric("golden_right", Unit.SHARE, better="more", words="right on this one image")


def golden_right(predictions: Predictions, image: int, *, because: str = "") -> Measurement:
    """Return 1 where the image at this position is taken for its class, else 0; `because` says why it matters.

    The interval is Wilson's for one image. Raises `InputError` for a position that there is not.
    """
    if not 0 <= image < len(predictions.labels):
        raise InputError(f"golden image {image}: there are {len(predictions.labels)}, expected a position among them")
    at = np.array([image])
    right = bool(predictions.correct[image])
    taken, label = (predictions.classes[int(each[image])] for each in (predictions.predicted, predictions.labels))
    sure = float(predictions.probabilities_at(at).max())
    said = f"{label}, {'as it should be' if right else f'taken for {taken}'} ({sure:.0%} confidence)"
    return Measurement(
        GOLDEN_RIGHT,
        float(right),
        1,
        proportion_interval(int(right), 1),
        detail="; ".join(filter(None, (said, because))),
        failures=np.array([], dtype=np.int64) if right else at,
    )
