"""Negative flips: lost correct predictions of the incumbent, which users notice even at the same accuracy."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from harness.base.errors import NotApplicableError
from harness.measures.accuracy import class_number, most_confident
from harness.measures.metric import Measurement, Metric, Unit
from harness.measures.statistics import count_interval

if TYPE_CHECKING:
    from harness.inference import Predictions

NEGATIVE_FLIPS = Metric(
    "negative_flips",
    Unit.IMAGES,
    better="less",
    scale="root",
    words="lost correct predictions of the incumbent",
)


def negative_flips(
    predictions: Predictions,
    before: np.ndarray,
    *,
    of_class: str | None = None,
    among: np.ndarray | None = None,
    correction: float = 1.0,
) -> Measurement:
    """Return the number of negative flips: images with a correct prediction of the incumbent and a wrong one now.

    Yan et al. 2021, "Positive-Congruent Training", section 3, divide it by the number of images. `before` marks the
    correct predictions of the incumbent, (N,) bool. `of_class` counts images of one class only, and `among` only
    these, (N,) bool, though the rate is among all. The number is multiplied by a `correction`, see `PairedIncumbent`.
    The interval is that of the rate (Wilson 1927) times the number. The failures are the most confident first. Raises
    `NotApplicableError` without an image to count.
    """
    looked_at = np.ones(len(predictions.labels), dtype=bool)
    if of_class is not None:
        looked_at = predictions.labels == class_number(predictions, of_class)
    if not (n := int(looked_at.sum())):
        raise NotApplicableError(f"negative flips: none of {len(predictions.labels)} images is of class {of_class!r}")
    if among is not None:
        looked_at = looked_at & among
    lost, gained = looked_at & before & ~predictions.correct, looked_at & ~before & predictions.correct
    count = int(lost.sum())
    detail = f"{int(gained.sum())} gained in return"
    if count:
        pairs = Counter(zip(predictions.labels[lost].tolist(), predictions.predicted[lost].tolist(), strict=True))
        (true, taken), most = pairs.most_common(1)[0]
        detail += f"; most often {predictions.classes[true]}→{predictions.classes[taken]}, {most}"
    corrected = count if correction == 1 else count * correction
    failures = most_confident(predictions, lost)
    return Measurement(NEGATIVE_FLIPS, corrected, n, count_interval(corrected, n), detail=detail, failures=failures)
