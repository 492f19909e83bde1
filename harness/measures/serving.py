"""Predictions that another serving pipeline changes, and correct ones that it loses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.measures import equivalence
from harness.measures.changed_predictions import changed, lost_and_gained, measured
from harness.measures.metric import Measurement, Metric, Unit
from harness.measures.selection import ordered

if TYPE_CHECKING:
    from harness.inference import Predictions


_DOES = "predictions that another serving pipeline"
SERVED_PREDICTIONS_CHANGED = Metric(
    "served_predictions_changed", Unit.SHARE, better="less", words=f"{_DOES} changes"
)
SERVED_CORRECT_PREDICTIONS_LOST = Metric(
    "served_correct_predictions_lost",
    Unit.DIFFERENCE,
    better="less",
    words=f"correct {_DOES} loses, less those gained",
)
OF_SERVING = frozenset((SERVED_PREDICTIONS_CHANGED.name, SERVED_CORRECT_PREDICTIONS_LOST.name))
"""The names of these metrics. A tolerance on one counts until reference models give a threshold."""


def served_predictions_changed(
    served: Predictions, reference: Predictions, *, through: str = ""
) -> Measurement:
    """Return the share of predictions that another serving pipeline changes, in [0, 1]; the bounds are exact.

    `through` describes the difference of the pipeline. The failures are the changes, the lost ones first.
    """
    return _measured(SERVED_PREDICTIONS_CHANGED, served, reference, through)


def served_correct_predictions_lost(
    served: Predictions, reference: Predictions, *, through: str = ""
) -> Measurement:
    """Return the correct predictions that another serving pipeline loses, less those gained, as a share in [-1, 1].

    `through` describes the difference of the pipeline. The bounds are conservative, see `net_limits`. The failures are
    the changes, the lost ones first.
    """
    return _measured(SERVED_CORRECT_PREDICTIONS_LOST, served, reference, through)


def _measured(
    metric: Metric, served: Predictions, reference: Predictions, through: str
) -> Measurement:
    differ = changed(served, reference)
    lost, gained = lost_and_gained(served, reference, differ)
    counts, n = (int(lost.sum()), int(gained.sum())), len(differ)
    if metric is SERVED_PREDICTIONS_CHANGED:
        quantity, each = equivalence.proportion(int(differ.sum()), n), differ
    else:
        quantity, each = (
            equivalence.net_loss(*counts, n),
            lost.astype(np.int8) - gained.astype(np.int8),
        )
    net = 100 * (counts[0] - counts[1]) / n
    said = (
        f"lose {net:.1f} points"
        if net > 0
        else f"gain {-net:.1f} points"
        if net < 0
        else "lose no accuracy"
    )
    share = f"{differ.sum() / n:.1%} of its predictions ({counts[0]:,} lost, {counts[1]:,} gained)"
    detail = f"{f'served with {through}, ' if through else ''}it would {said} and change {share}"
    return measured(metric, quantity, detail=detail, failures=ordered(differ, ~lost), each=each)
