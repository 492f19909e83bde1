"""Likely causes of the detected mutants of the detection benchmark, by their stored results."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from benchmarks.causes.expected import EXPECTED
from benchmarks.causes.rendered import ALPHABETS, CASES
from benchmarks.detection.judgement import judge
from benchmarks.detection.mutants import MUTANTS
from benchmarks.detection.paths import CHECKS, RESULTS
from benchmarks.detection.results import MEASURED, read_result
from harness.checks import read_checks
from harness.measures import METRICS, Measurement
from harness.report.causes import UNCLEAR, likely_cause
from harness.run.outcome import InputFaults

LETTERS = Path(__file__).parent / "measured"
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


@dataclass(frozen=True)
class Letters:
    """A case of the rendered letters: its half, its name, the right groups, and the group named; None if it passes."""

    half: str
    name: str
    right: tuple[str, ...]
    group: str | None


def letters() -> list[Letters]:
    """Return the causes of the rendered cases, by what `benchmarks.causes.rendered` has measured."""
    found = []
    for half in ALPHABETS:
        checks, kept = read_checks(LETTERS / f"{half}.toml"), json.loads((LETTERS / f"{half}.json").read_bytes())
        for name, case in kept.items():
            verdicts = []
            for check in checks.checks:
                value, n = case["rows"][check.id], (check.panel.n if check.panel else None) or checks.data.n
                verdicts.append(check.judge(Measurement(METRICS[check.metric], value, n, (value, value))))
            cause = likely_cause(verdicts, case["faults"] and InputFaults(**case["faults"]))
            found.append(Letters(half, name, CASES[name].right, None if cause is None else cause.group))
    return found
