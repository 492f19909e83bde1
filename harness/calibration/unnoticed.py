"""Faults that checks cannot notice by arithmetic, whatever a mutant does: a calibration says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.checks.edits import ends
from harness.measures.confidence import largest_if_certain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.calibration.panel import Panel
    from harness.checks import Threshold
    from harness.measures.panel.threshold import Calibrated


def unnoticed_lines(
    panel: Panel,
    calibrated: Sequence[Calibrated],
    hands: Mapping[str, Threshold],
) -> list[str]:
    """Return a line on each check of confidence whose threshold no overconfident model of this accuracy exceeds.

    The accuracy is the mean of the reference models on the same number of clean images.
    """
    lines = []
    for item in calibrated:
        check = item.check
        errors = _share_of_errors(panel, images=check.n)
        hand = hands.get(check.id)
        if hand is not None and ends(item, hand.reason):
            hand = None
        if errors is None or (item.informational and hand is None):
            continue
        largest = largest_if_certain(check.metric, errors, check.n)
        threshold = item.threshold if hand is None else hand.threshold
        if check.family != "confidence" or largest is None or largest > threshold:
            continue
        number = check.unit.format
        lines.append(
            f"{check.id}: this check cannot notice overconfidence at this accuracy: {errors:.1%} of errors allow at "
            f"most {number(largest, decimals=4)}, and its threshold is {number(threshold, decimals=4)}"
        )
    return lines


def _share_of_errors(panel: Panel, *, images: int) -> float | None:
    """Return the mean share of errors of the reference models on so many clean images; None without such a check."""
    checks = [
        check for check in panel.family("clean") if (check.metric, check.n) == ("accuracy", images)
    ]
    if not checks:
        return None
    return float(1 - panel.values(tuple(checks[:1])).mean())
