"""Faults that no threshold of a check can show, by arithmetic: a calibration names them."""

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
    panel: Panel, thresholds: Sequence[Calibrated], hands: Mapping[str, Threshold]
) -> list[str]:
    """Return a line on each check of confidence that no overconfident model can fail.

    A model that is certain of every prediction, right or wrong, has the largest value that
    overconfidence can cause at its accuracy. If the threshold allows that value, then the check
    cannot notice overconfidence. The accuracy is the mean of the reference models on the same
    number of clean images.

    Args:
        panel: The reference models and their values.
        thresholds: The thresholds of the calibration.
        hands: Thresholds by hand, by the check's id. They win over those of the calibration, unless
            they were until calibrated.
    """
    lines = []
    for calibrated in thresholds:
        check = calibrated.check
        if check.family != "confidence":
            continue
        threshold = _threshold_that_judges(calibrated, hands.get(check.id))
        error_rate = _error_rate(panel, images=check.n)
        if threshold is None or error_rate is None:
            continue
        largest = largest_if_certain(check.metric, error_rate, check.n)
        if largest is None or largest > threshold:
            continue

        largest_text = check.unit.format(largest, decimals=4)
        threshold_text = check.unit.format(threshold, decimals=4)
        lines.append(
            f"{check.id}: this check cannot notice overconfidence at this accuracy: "
            f"{error_rate:.1%} of errors allow at most {largest_text}, and its threshold is "
            f"{threshold_text}"
        )
    return lines


def _threshold_that_judges(calibrated: Calibrated, hand: Threshold | None) -> float | None:
    """Return the threshold by hand or by the panel that judges a candidate; None without one."""
    if hand is not None and not ends(calibrated, hand.reason):
        return hand.threshold
    if calibrated.informational:
        return None
    return calibrated.threshold


def _error_rate(panel: Panel, *, images: int) -> float | None:
    """Return the mean error rate of the models on so many clean images; None if not measured."""
    for check in panel.family("clean"):
        if check.metric == "accuracy" and check.n == images:
            return float(1 - panel.values((check,)).mean())
    return None
