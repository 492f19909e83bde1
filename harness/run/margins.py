"""Margins of verdicts: their distance from a threshold, and the order that follows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.checks.check import STATUSES
from harness.run.history import FARTHEST

if TYPE_CHECKING:
    from harness.checks import Verdict


def worst_first(verdicts: tuple[Verdict, ...]) -> list[Verdict]:
    """Order verdicts for a reader: errors, failures from the largest miss on, then all others."""
    return sorted(verdicts, key=urgency)


def urgency(verdict: Verdict) -> tuple[int, float]:
    """Return the sort key of a verdict: its status, and how far a failure misses its threshold."""
    missed_by = slack(verdict) if verdict.status == "fail" else None
    return STATUSES.index(verdict.status), missed_by or 0.0


def slack(verdict: Verdict) -> float | None:
    """Return how far a measurement lies on the good side of its threshold, in its `spread`.

    It is negative beyond the threshold, and None for a check without a verdict.
    """
    if not verdict.judged or verdict.value is None or verdict.threshold is None:
        return None
    reference = verdict.check.reference
    std = reference.std if reference else None
    sign = -1 if verdict.check.direction == "at_most" else 1
    distance = verdict.value - verdict.threshold
    return sign * distance / spread(verdict.threshold, std)


def spread(threshold: float, std: float | None) -> float:
    """Return the unit of a margin.

    It is the reference models' standard deviation, or a hundredth of the threshold.
    """
    return std or max(abs(threshold) * 0.01, 1e-9)


def margin(verdict: Verdict) -> float | None:
    """Return the `slack` of a verdict within limits, for a reader.

    Its unit is the standard deviation of reference models. Without known reference models, the unit
    is a hundredth of the threshold. The margin is negative for a check that fails, at least 0 for
    one that passes, and at most 99 either way. None for a check without a verdict.
    """
    distance = slack(verdict)
    if distance is None:
        return None
    distance = min(max(distance, -FARTHEST), FARTHEST)
    # A check without a significant difference passes beyond its threshold.
    return max(distance, 0.0) if verdict.status == "pass" else min(distance, 0.0)
