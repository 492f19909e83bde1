"""Likely causes of the detected mutants of the detection benchmark, by their stored results."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.causes.expected import EXPECTED
from benchmarks.detection.judgement import judge
from benchmarks.detection.mutants import MUTANTS
from benchmarks.detection.paths import CHECKS, RESULTS
from benchmarks.detection.results import MEASURED, read_result
from harness.checks import read_checks
from harness.report.causes import UNCLEAR, likely_cause

DEVELOPED = tuple(EXPECTED)[::2]
"""Kinds that the rules come from; all others test them."""


@dataclass(frozen=True)
class Named:
    """One detected mutant: the group that the report names, and its evidence."""

    id: str
    kind: str
    group: str
    evidence: str

    @property
    def right(self) -> bool:
        """Return whether the group is right for the kind."""
        return self.group in EXPECTED[self.kind]

    @property
    def unclear(self) -> bool:
        """Return whether no rule holds."""
        return self.group == UNCLEAR

    @property
    def developed(self) -> bool:
        """Return whether the rules come from this kind."""
        return self.kind in DEVELOPED


def causes() -> list[Named]:
    """Return the detected mutants with a stored result, sorted by kind and name."""
    checks, found = read_checks(CHECKS), []
    for mutant in MUTANTS:
        kept = read_result(mutant.id, RESULTS)
        if mutant.kind not in EXPECTED or kept is None or kept.outcome != MEASURED:
            continue
        if (cause := likely_cause(judge(kept, checks).verdicts)) is not None:
            found.append(Named(mutant.id, mutant.kind, cause.group, cause.evidence))
    return sorted(found, key=lambda each: each.id)
