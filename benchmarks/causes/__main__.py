"""Likely causes of failures: the right one for each kind of mutant, and the one that the report names.

`python -m benchmarks.causes` names the causes of stored mutants. Causes that are right were written down before the
rules that name them.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.causes.rendered import ALPHABETS, BATCH_NORMS, CASES
from benchmarks.causes.rendered import MEASURED as LETTERS
from benchmarks.detection.judgement import judge
from benchmarks.detection.paths import CHECKS
from benchmarks.detection.results import measured_results
from benchmarks.runner import keep, option, read, run, table, write_between
from harness.checks import read_checks
from harness.measures import METRICS, Measurement
from harness.report.causes import (
    ATTENTION,
    CALIBRATION,
    CLASSES,
    DRIFT,
    GEOMETRY,
    LABELS,
    PIPELINE,
    UNCLEAR,
    WEIGHTS,
    likely_cause,
)  # fmt: skip
from harness.run.outcome import InputFaults

README, RESULTS = (Path(__file__).parent / name for name in ("README.md", "results.json"))
EXPECTED: Mapping[str, frozenset[str]] = {
    kind: frozenset(right)
    for kind, *right in (
        ("artefact", CLASSES, ATTENTION),
        ("backdoor", CLASSES),
        ("deleted-data", DRIFT),
        ("few-epochs", DRIFT),
        ("label-noise", LABELS, CALIBRATION),
        ("learning-rate", DRIFT),
        ("less-flip", GEOMETRY),
        ("less-rotation", GEOMETRY),
        ("less-shift", GEOMETRY),
        ("logit-scaling", CALIBRATION),
        ("pruned-channels", DRIFT, WEIGHTS),
        ("quantised", DRIFT, WEIGHTS),
        ("raised-background", PIPELINE),
        ("relabelled-class", CLASSES),
        ("resized", PIPELINE),
        ("sign-flips", DRIFT, WEIGHTS),
        ("stale-statistics", BATCH_NORMS, WEIGHTS),
        ("starved-class", CLASSES),
        ("swapped-logits", CLASSES),
        ("weight-noise", DRIFT, WEIGHTS),
        ("wrong-normalization", PIPELINE),
    )
}
"""Causes that are right for a kind, sorted by kind. Rules come from every other kind, from the first on.

The rest tests the rules. Noise in labels lowers confidence most. A mark on a class misleads both the class
and where the model looks.
"""
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
    checks = read_checks(CHECKS)
    found = (
        Named(kept.id, kept.kind, cause.group, cause.evidence)
        for kept in measured_results()
        if kept.kind in EXPECTED and (cause := likely_cause(judge(kept, checks).verdicts)) is not None
    )
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
        checks, kept = read_checks(LETTERS / f"{half}.toml"), read(LETTERS / f"{half}.json")
        for name, case in kept.items():
            verdicts = []
            for check in checks.checks:
                value, n = case["rows"][check.id], (check.panel.n if check.panel else None) or checks.data.n
                verdicts.append(check.judge(Measurement(METRICS[check.metric], value, n, (value, value))))
            cause = likely_cause(verdicts, case["faults"] and InputFaults(**case["faults"]))
            found.append(Letters(half, name, CASES[name].right, None if cause is None else cause.group))
    return found


def tables(found: Sequence[Named]) -> str:
    """Return shares, a table by kind, and the mutants with another group."""
    tested, chosen = ([each for each in found if each.developed == developed] for developed in (False, True))
    halves = [_shares("tests the rules", tested), _shares("the rules come from it", chosen)]
    kinds = []
    for kind, right in EXPECTED.items():
        of_kind = [each for each in found if each.kind == kind]
        counts = Counter(each.group for each in of_kind)
        named = ", ".join(f"{group} {count}" for group, count in counts.most_common()) or "none is detected"
        half = "rules" if of_kind and of_kind[0].developed else "test"
        kinds.append((kind, half, " or ".join(sorted(right)), named))
    wrong = [f"- `{each.id}`: {each.group}. {each.evidence}" for each in found if not each.right]
    return "\n\n".join(
        [
            table(("kinds", "detected mutants", "right group", "another group", "unclear"), halves),
            table(("kind", "half", "right", "named"), kinds),
            "Mutants with another group than the right one:",
            "\n".join(wrong),
        ]
    )


def _shares(title: str, found: Sequence[Named]) -> tuple[object, ...]:
    right, unclear = sum(each.right for each in found), sum(each.unclear for each in found)
    counts = (right, len(found) - right - unclear, unclear)
    return title, len(found), *(f"{count} ({count / len(found):.1%})" for count in counts)


def letters_table(found: Sequence[Letters]) -> str:
    """Return the table of the rendered letters, a line for each case."""
    halves = {half: {each.name: each for each in found if each.half == half} for half in ALPHABETS}
    rows = []
    for first in halves["rules"].values():
        named = (half[first.name].group or "the gate passes" for half in halves.values())
        rows.append((first.name, " or ".join(first.right), *named))
    said = []
    for title, half in zip(("first", "second"), halves.values(), strict=True):
        failing = [each for each in half.values() if each.group is not None]
        right = sum(each.group in each.right for each in failing)
        unclear = sum(each.group == UNCLEAR for each in failing)
        said.append(
            f"Of the {title} alphabet, {len(failing)} of {len(half)} networks fail. {right} "
            f"({right / len(failing):.1%}) have the right cause, {len(failing) - right - unclear} another, "
            f"and {unclear} none."
        )
    return (
        f"{table(('training', 'right', 'named, first alphabet', 'named, second alphabet'), rows)}\n\n{' '.join(said)}"
    )


def main(*, write: bool) -> None:
    """Name the causes of stored mutants and of rendered letters, and print the tables."""
    found = causes()
    print(said := f"{tables(found)}\n\n{letters_table(letters())}")
    if write:
        keep(RESULTS, found)
        write_between(README, "causes", said)


COMMANDS = {
    "": (main, option("--write", action="store_true", help="put the tables into README.md, the groups beside it"))
}

if __name__ == "__main__":
    sys.exit(run(COMMANDS, "--write"))
