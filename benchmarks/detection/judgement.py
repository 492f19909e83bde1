"""Judge what was measured against a checks file.

Pure functions, so a recalibration needs no new measurements.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.detection.mutants import HEALTHY
from benchmarks.detection.results import Result
from harness.checks import Check, ChecksFile, Verdict
from harness.measures import METRICS, Measurement
from harness.run.margins import worst_first

TRIVIAL = 0.80
"""Mutants of a lower clean accuracy are trivial: anyone would notice."""
_CLEAN = "clean"


@dataclass(frozen=True)
class Judged:
    """A measured mutant and the gate's verdict on each measured row of the candidate's.

    `unmeasured` are the ids of rows with a threshold that the result lacks, since they are newer
    than it.
    """

    result: Result
    clean_accuracy: float
    verdicts: tuple[Verdict, ...]
    unmeasured: tuple[str, ...] = ()

    @property
    def failed(self) -> tuple[Verdict, ...]:
        """Return the rows that do not hold, the worst miss first.

        A miss is in units of the threshold's standard deviation.
        """
        return tuple(
            worst_first(tuple(verdict for verdict in self.verdicts if verdict.status == "fail"))
        )

    @property
    def detected(self) -> bool:
        return bool(self.failed)

    @property
    def undecided(self) -> bool:
        """Return whether no row measured fails, while others with a threshold were not measured."""
        return bool(self.unmeasured) and not self.detected

    @property
    def caught_by_clean(self) -> bool:
        """Return whether the threshold of overall clean accuracy alone fails the checkpoint."""
        return any(verdict.check.id == _CLEAN for verdict in self.failed)

    @property
    def trivial(self) -> bool:
        return self.clean_accuracy < TRIVIAL

    @property
    def healthy(self) -> bool:
        return self.result.kind == HEALTHY

    @property
    def nearest(self) -> tuple[str, float] | None:
        """Return the row nearest to its threshold and how far inside it is.

        The distance is in the threshold's standard deviations. None when no gated row has a
        standard deviation.
        """
        margins = [
            (verdict.check.id, margin)
            for verdict in self.verdicts
            if (margin := _margin(verdict)) is not None
        ]
        return min(margins, key=lambda entry: entry[1], default=None)


def judge(result: Result, checks: ChecksFile) -> Judged:
    """Judge the rows of a measured mutant; rows that it was not measured on have no verdict."""
    assert result.clean_accuracy is not None, f"{result.id}: a measured mutant has a clean accuracy"
    verdicts = tuple(
        verdict_of(check, result.rows[check.id], n=checks.data.n)
        for check in checks.checks
        if check.role == "candidate" and check.id in result.rows
    )
    bounded = {check.id for check in checks.checks if check.binding is not None}
    unmeasured = tuple(name for name in result.missing(checks.checks) if name in bounded)
    return Judged(result, result.clean_accuracy, verdicts, unmeasured)


def verdict_of(check: Check, value: float | None, *, n: int) -> Verdict:
    """Return the gate's verdict on a kept value; None is what the gate had no value for."""
    if value is None:
        return check.unjudged("not_applicable", "the gate had no value")
    made_for = (check.binding.n if check.binding else None) or n
    return check.judge(Measurement(METRICS[check.metric], value, made_for, (value, value)))


def families(judged: Iterable[Judged]) -> list[str]:
    """Return the families of rows that failed on any of the mutants, the worst miss first."""
    failed = tuple(verdict for one in judged for verdict in one.failed)
    return list(dict.fromkeys(verdict.check.family for verdict in worst_first(failed)))


def upper_bound(events: int, n: int, *, confidence: float = 0.95) -> float:
    """Return the exact one-sided upper confidence threshold of a share of `events` in `n`.

    Clopper & Pearson 1934.
    """
    from scipy.stats import binomtest

    interval = binomtest(events, n, alternative="less").proportion_ci(
        confidence_level=confidence, method="exact"
    )
    return float(interval.high)


def weakest_detected(strengths: Mapping[int, Sequence[bool]]) -> int | None:
    """Return the lowest strength from which on every mutant measured was detected.

    None without one.

    `strengths` maps a strength to whether each of its mutants was detected; an empty sequence says
    nothing.
    """
    weakest = None
    for strength in sorted(strengths, reverse=True):
        if not all(strengths[strength]):
            break
        if strengths[strength]:
            weakest = strength
    return weakest


def _margin(verdict: Verdict) -> float | None:
    threshold = verdict.check.binding
    if verdict.value is None or verdict.threshold is None or threshold is None or not threshold.std:
        return None
    sign = 1 if verdict.check.direction == "at_least" else -1
    return sign * (verdict.value - verdict.threshold) / threshold.std
