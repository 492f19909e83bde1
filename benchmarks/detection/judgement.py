"""Judge what was measured against a gates file; pure functions, so that a recalibration needs no new measuring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.detection.mutants import HEALTHY
from harness.measures import METRICS, Measurement
from harness.run.outcome import worst_first

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from benchmarks.detection.results import Result
    from harness.gates import Gate, GatesFile, Verdict

TRIVIAL = 0.80
"""Mutants of a lower clean accuracy are trivial: anyone would notice."""
_CLEAN = "clean"


@dataclass(frozen=True)
class Judged:
    """A measured mutant and the gate's verdict on each row of the candidate's that has been measured.

    `unmeasured` are the ids of rows with a bound that the result lacks, since they are newer than it.
    """

    result: Result
    clean_accuracy: float
    verdicts: tuple[Verdict, ...]
    unmeasured: tuple[str, ...] = ()

    @property
    def failed(self) -> tuple[Verdict, ...]:
        """Return the rows that do not hold, the worst miss in units of the bound's standard deviation first."""
        return tuple(worst_first(tuple(verdict for verdict in self.verdicts if verdict.status == "fail")))

    @property
    def detected(self) -> bool:
        """Return whether the gate fails the checkpoint."""
        return bool(self.failed)

    @property
    def undecided(self) -> bool:
        """Return whether no row measured fails, while others with a bound were not measured."""
        return bool(self.unmeasured) and not self.detected

    @property
    def caught_by_clean(self) -> bool:
        """Return whether the floor of overall clean accuracy alone fails the checkpoint."""
        return any(verdict.gate.id == _CLEAN for verdict in self.failed)

    @property
    def trivial(self) -> bool:
        """Return whether clean accuracy is so low that anyone would notice."""
        return self.clean_accuracy < TRIVIAL

    @property
    def healthy(self) -> bool:
        """Return whether this is a healthy retrain."""
        return self.result.kind == HEALTHY

    @property
    def nearest(self) -> tuple[str, float] | None:
        """Return the row nearest to its bound and how far inside it is, in the bound's standard deviations.

        None when no gated row has a standard deviation.
        """
        margins = [(verdict.gate.id, margin) for verdict in self.verdicts if (margin := _margin(verdict)) is not None]
        return min(margins, key=lambda entry: entry[1], default=None)


def judge(result: Result, gates: GatesFile) -> Judged:
    """Judge the rows of a measured mutant; rows that it was not measured on have no verdict."""
    assert result.clean_accuracy is not None, f"{result.id}: a measured mutant has a clean accuracy"
    verdicts = tuple(
        verdict_of(gate, result.rows[gate.id], n=gates.data.n)
        for gate in gates.gates
        if gate.role == "candidate" and gate.id in result.rows
    )
    bounded = {gate.id for gate in gates.gates if gate.threshold is not None}
    unmeasured = tuple(name for name in result.missing(gates.gates) if name in bounded)
    return Judged(result, result.clean_accuracy, verdicts, unmeasured)


def verdict_of(gate: Gate, value: float | None, *, n: int) -> Verdict:
    """Return the gate's verdict on a kept value; None is what the gate had no value for."""
    if value is None:
        return gate.unjudged("not_applicable", "the gate had no value")
    made_for = (gate.threshold.n if gate.threshold else None) or n
    return gate.judge(Measurement(METRICS[gate.metric], value, made_for, (value, value)))


def families(judged: Iterable[Judged]) -> list[str]:
    """Return the families of rows that failed on any of the mutants, the worst miss first."""
    failed = tuple(verdict for one in judged for verdict in one.failed)
    return list(dict.fromkeys(verdict.gate.family for verdict in worst_first(failed)))


def upper_bound(events: int, n: int, *, confidence: float = 0.95) -> float:
    """Return the exact one-sided upper confidence bound of a share of `events` in `n` (Clopper & Pearson 1934)."""
    from scipy.stats import binomtest

    interval = binomtest(events, n, alternative="less").proportion_ci(confidence_level=confidence, method="exact")
    return float(interval.high)


def weakest_detected(strengths: Mapping[int, Sequence[bool]]) -> int | None:
    """Return the lowest strength from which on every mutant measured was detected, None when there is none.

    `strengths` maps a strength to whether each of its mutants was detected; an empty sequence says nothing.
    """
    weakest = None
    for strength in sorted(strengths, reverse=True):
        if not all(strengths[strength]):
            break
        if strengths[strength]:
            weakest = strength
    return weakest


def _margin(verdict: Verdict) -> float | None:
    threshold = verdict.gate.threshold
    if verdict.value is None or verdict.limit is None or threshold is None or not threshold.std:
        return None
    sign = 1 if verdict.gate.direction == "at_least" else -1
    return sign * (verdict.value - verdict.limit) / threshold.std
