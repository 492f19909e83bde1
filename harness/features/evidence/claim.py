"""The declared accuracy beside the measured one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from harness.checks import Verdict
    from harness.run.outcome import Outcome

Ruling = Literal["supported", "open", "contradicted", "not measured"]
_ONE_SIDED = 0.975
"""Confidence of each end of a 95% interval."""


@dataclass(frozen=True)
class AccuracyClaim:
    """A declared accuracy, and the accuracy on clean images with its 95% interval.

    It is supported if the whole interval is at or above the declared accuracy, contradicted if it
    is below, and open if the interval contains it. `check` is the id of the check that measured it;
    without a measurement, it is empty, and values are None.
    """

    declared: float
    ruling: Ruling
    check: str = ""
    measured: float | None = None
    n: int = 0
    interval: tuple[float, float] | None = None
    method: str = ""

    @property
    def in_words(self) -> str:
        """Return the comparison as a sentence."""
        if self.measured is None or self.interval is None:
            return f"declared {self.declared:.1%}; no check measured the accuracy on clean images"
        low, high = self.interval
        return (
            f"{self.ruling}: declared {self.declared:.1%}, measured {self.measured:.1%} on "
            f"{self.n} images (95% interval {low:.1%} to {high:.1%}, {self.method})"
        )


def claim_of(declared: float, outcome: Outcome) -> AccuracyClaim:
    """Return a declared accuracy beside the one that a run measured on clean images."""
    verdict = _accuracy_on_clean_images(outcome)
    if verdict is None or verdict.value is None:
        return AccuracyClaim(declared, "not measured")

    interval, method = _interval(verdict)
    if interval is None:
        return AccuracyClaim(declared, "not measured")
    low, high = interval
    ruling: Ruling = "open"
    if low >= declared:
        ruling = "supported"
    elif high < declared:
        ruling = "contradicted"
    return AccuracyClaim(
        declared, ruling, verdict.check.id, float(verdict.value), verdict.out_of, interval, method
    )


def _accuracy_on_clean_images(outcome: Outcome) -> Verdict | None:
    for verdict in outcome.results.verdicts:
        check = verdict.check
        is_accuracy = check.family == "clean" and verdict.metric == "accuracy"
        # The value of a run that stopped is the best that the whole run could give.
        is_whole = verdict.value is not None and not verdict.stopped
        if is_accuracy and is_whole and check.role == "candidate":
            return verdict
    return None


def _interval(verdict: Verdict) -> tuple[tuple[float, float] | None, str]:
    """Return the exact interval of a share; that of the record for an estimate from strata."""
    from harness.measures.equivalence import proportion_limits

    if verdict.value is None or not verdict.out_of:
        return None, ""
    if verdict.sampling is None:
        correct = round(verdict.value * verdict.out_of)
        return proportion_limits(correct, verdict.out_of, _ONE_SIDED), "Clopper-Pearson"
    if verdict.interval is None:
        return None, ""
    low, high = verdict.interval
    return (float(low), float(high)), "of the stratified sample"
