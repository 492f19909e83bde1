"""Loss by another serving pipeline: changed predictions and lost correct predictions on the same images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.measures.changed_predictions import changed, lost_and_gained
from harness.measures.equivalence import NetLoss, Proportion
from harness.measures.metric import Measurement, Metric, Unit

if TYPE_CHECKING:
    from harness.inference import Predictions

SERVED_PREDICTIONS_CHANGED = Metric(
    "served_predictions_changed",
    Unit.SHARE,
    better="less",
    words="predictions that another serving pipeline changes",
)
SERVED_CORRECT_PREDICTIONS_LOST = Metric(
    "served_correct_predictions_lost",
    Unit.DIFFERENCE,
    better="less",
    words="correct predictions that another serving pipeline loses, less those gained",
)
OF_SERVING = frozenset((SERVED_PREDICTIONS_CHANGED.name, SERVED_CORRECT_PREDICTIONS_LOST.name))
"""The names of these metrics. A tolerance on one counts until reference models give a threshold."""
_TWO_SIDED = 0.975


def served_predictions_changed(served: Predictions, reference: Predictions, *, through: str = "") -> Measurement:
    """Return the share of predictions that another serving pipeline changes, in [0, 1]; the bounds are exact.

    `through` describes the difference of the pipeline. The failures are the changes, the lost ones first.
    """
    differ = changed(served, reference)
    return _measured(SERVED_PREDICTIONS_CHANGED, served, reference, differ, through, each=differ)


def served_correct_predictions_lost(served: Predictions, reference: Predictions, *, through: str = "") -> Measurement:
    """Return the correct predictions that another serving pipeline loses, less those gained, as a share in [-1, 1].

    `through` describes the difference of the pipeline. The bounds are conservative, see `net_limits`. The failures are
    the changes, the lost ones first.
    """
    differ = changed(served, reference)
    lost, gained = lost_and_gained(served, reference, differ)
    each = lost.astype(np.int8) - gained.astype(np.int8)
    return _measured(SERVED_CORRECT_PREDICTIONS_LOST, served, reference, differ, through, each=each)


def _measured(
    metric: Metric, served: Predictions, reference: Predictions, differ: np.ndarray, through: str, *, each: np.ndarray
) -> Measurement:
    lost, gained = lost_and_gained(served, reference, differ)
    n = len(differ)
    quantity = (
        Proportion(int(differ.sum()), n)
        if metric is SERVED_PREDICTIONS_CHANGED
        else NetLoss(int(lost.sum()), int(gained.sum()), n)
    )
    low, high = (float(np.clip(limit, *metric.range)) for limit in quantity.limits(_TWO_SIDED))
    said = served_in_words(lost=int(lost.sum()), gained=int(gained.sum()), changed=int(differ.sum()), n=n)
    return Measurement(
        metric,
        quantity.value + 0.0,
        n,
        (low, high),
        detail=f"served with {through}, {said}" if through else said,
        failures=np.flatnonzero(differ)[np.argsort(~lost[differ], kind="stable")],
        each=each,
        quantity=quantity,
    )


def served_in_words(*, lost: int, gained: int, changed: int, n: int) -> str:
    """Return the loss as text, such as "it would lose 1.9 points and change 6.1% of its predictions"."""
    net = 100 * (lost - gained) / n
    said = f"lose {net:.1f} points" if net > 0 else f"gain {-net:.1f} points" if net < 0 else "lose no accuracy"
    return f"it would {said} and change {changed / n:.1%} of its predictions ({lost:,} lost, {gained:,} gained)"
