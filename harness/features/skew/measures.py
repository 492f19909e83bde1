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


SERVED_PREDICTIONS_CHANGED = Metric(
    "served_predictions_changed",
    Unit.SHARE,
    better="less",
    words="predictions that another serving pipeline changes",
    tolerated_at_first=True,
)
SERVED_CORRECT_PREDICTIONS_LOST = Metric(
    "served_correct_predictions_lost",
    Unit.DIFFERENCE,
    better="less",
    words="correct predictions that another serving pipeline loses, less those gained",
    tolerated_at_first=True,
)


def served_predictions_changed(
    served: Predictions, reference: Predictions, *, through: str = ""
) -> Measurement:
    """Return the share of predictions that another serving pipeline changes, in [0, 1].

    The bounds are exact (Clopper-Pearson). `through` describes the difference of the pipeline. The
    failures are the changes, the lost ones first.
    """
    differ = changed(served, reference)
    quantity = equivalence.proportion(int(differ.sum()), len(differ))
    return _measured(
        SERVED_PREDICTIONS_CHANGED, quantity, served, reference, through, contributions=differ
    )


def served_correct_predictions_lost(
    served: Predictions, reference: Predictions, *, through: str = ""
) -> Measurement:
    """Return the correct predictions lost by another serving pipeline, less those gained.

    The value is a share of all images, in [-1, 1]. The bounds are conservative, see `net_limits`.
    `through` describes the difference of the pipeline. The failures are the changes, the lost ones
    first.
    """
    differ = changed(served, reference)
    lost, gained = lost_and_gained(served, reference, differ)
    quantity = equivalence.net_loss(int(lost.sum()), int(gained.sum()), len(differ))
    net_losses = lost.astype(np.int8) - gained.astype(np.int8)
    return _measured(
        SERVED_CORRECT_PREDICTIONS_LOST,
        quantity,
        served,
        reference,
        through,
        contributions=net_losses,
    )


def _measured(
    metric: Metric,
    quantity: equivalence.Quantity,
    served: Predictions,
    reference: Predictions,
    through: str,
    *,
    contributions: np.ndarray,
) -> Measurement:
    differ = changed(served, reference)
    lost, gained = lost_and_gained(served, reference, differ)
    return measured(
        metric,
        quantity,
        detail=_detail(int(lost.sum()), int(gained.sum()), differ, through),
        failures=ordered(differ, ~lost),
        each=contributions,
    )


def _detail(lost: int, gained: int, differ: np.ndarray, through: str) -> str:
    """Say what another pipeline would do to the predictions."""
    n = len(differ)
    net_points = 100 * (lost - gained) / n
    if net_points > 0:
        effect = f"lose {net_points:.1f} points"
    elif net_points < 0:
        effect = f"gain {-net_points:.1f} points"
    else:
        effect = "lose no accuracy"

    pipeline = ""
    if through:
        pipeline = f"served with {through}, "
    share = differ.sum() / n
    return (
        f"{pipeline}it would {effect} and change {share:.1%} of its predictions "
        f"({lost:,} lost, {gained:,} gained)"
    )
