"""Likely causes of failures.

The right one for each kind of mutant, and the one that the report names.

`python -m benchmarks.causes` names the causes of stored mutants. Causes that are right were written
down before the rules that name them.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scipy.stats import binomtest

from benchmarks.causes.rendered import ALPHABETS, BATCH_NORMS, CASES, RECIPE
from benchmarks.causes.rendered import MEASURED as LETTERS
from benchmarks.detection.judgement import judge
from benchmarks.detection.paths import CHECKS
from benchmarks.detection.results import measured_results
from benchmarks.runner import keep, option, read, run, table, write_between
from harness.checks import Check, ChecksFile, Verdict, read_checks
from harness.measures import METRICS, Measurement
from harness.report.cause_rules import (
    ATTENTION,
    CALIBRATION,
    CLASSES,
    DRIFT,
    GEOMETRY,
    LABELS,
    PIPELINE,
    UNCLEAR,
    WEIGHTS,
)  # fmt: skip
from harness.report.causes import likely_cause
from harness.run.findings import InputFaults

README, RESULTS = (Path(__file__).parent / name for name in ("README.md", "results.json"))
EXPECTED: Mapping[str, frozenset[str]] = {
    kind: frozenset(right)
    for kind, *right in (
        ("artefact", CLASSES, ATTENTION),
        ("backdoor", CLASSES),
        ("deleted-data", DRIFT),
        ("few-epochs", DRIFT, RECIPE),
        ("label-noise", LABELS, CALIBRATION),
        ("learning-rate", DRIFT, RECIPE),
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
"""Causes that are right for a kind, sorted by kind.

Rules come from every other kind, from the first on.

The rest tests the rules. Noise in labels lowers confidence most. A mark on a class misleads both
the class and where the model looks. The learning rate and the number of epochs are parts of the
recipe.
"""
DEVELOPED = tuple(EXPECTED)[::2]
"""Kinds that the rules come from; all others test them."""
ORDINALS = ("first", "second", "third", "fourth")
"""Titles of the alphabets, in their order."""


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
        if kept.kind in EXPECTED
        and (cause := likely_cause(judge(kept, checks).verdicts)) is not None
    )
    return sorted(found, key=lambda each: each.id)


@dataclass(frozen=True)
class Letters:
    """A case of the rendered letters: alphabet, name, the right groups, and the group named.

    None if it passes.
    """

    alphabet: str
    name: str
    right: tuple[str, ...]
    group: str | None


def letters() -> list[Letters]:
    """Return the causes of the rendered cases, as measured by `benchmarks.causes.rendered`."""
    cases = []
    for alphabet in ALPHABETS:
        checks = read_checks(LETTERS / f"{alphabet}.toml")
        for name, case in read(LETTERS / f"{alphabet}.json").items():
            verdicts = [_verdict(check, case["rows"][check.id], checks) for check in checks.checks]
            cause = likely_cause(verdicts, case["faults"] and InputFaults(**case["faults"]))
            cases.append(
                Letters(alphabet, name, CASES[name].right, None if cause is None else cause.group)
            )
    return cases


def _verdict(check: Check, value: float, checks: ChecksFile) -> Verdict:
    n = (check.panel.n if check.panel else None) or checks.data.n
    return check.judge(Measurement(METRICS[check.metric], value, n, (value, value)))


def tables(found: Sequence[Named]) -> str:
    """Return shares, a table by kind, and the mutants with another group."""
    tested, chosen = (
        [each for each in found if each.developed == developed] for developed in (False, True)
    )
    halves = [_shares("tests the rules", tested), _shares("the rules come from it", chosen)]
    kinds = []
    for kind, right in EXPECTED.items():
        of_kind = [each for each in found if each.kind == kind]
        counts = Counter(each.group for each in of_kind)
        named = (
            ", ".join(f"{group} {count}" for group, count in counts.most_common())
            or "none is detected"
        )
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


def _shares(title: str, mutants: Sequence[Named]) -> tuple[object, ...]:
    right, unclear = (
        sum(mutant.right for mutant in mutants),
        sum(mutant.unclear for mutant in mutants),
    )
    counts = (right, len(mutants) - right - unclear, unclear)
    return title, len(mutants), *(f"{count} ({count / len(mutants):.1%})" for count in counts)


def letters_table(cases: Sequence[Letters]) -> str:
    """Return the table of the rendered letters: cases, and the counts of each alphabet."""
    alphabets = {
        alphabet: {case.name: case for case in cases if case.alphabet == alphabet}
        for alphabet in ALPHABETS
    }
    rows = []
    for case in alphabets["rules"].values():
        groups = (
            of_alphabet[case.name].group or "the gate passes" for of_alphabet in alphabets.values()
        )
        rows.append((case.name, " or ".join(case.right), *groups))
    titles = ORDINALS[: len(alphabets)]
    head = ("training", "right", *(f"named, {title} alphabet" for title in titles))

    counts = []
    for title, (alphabet, of_alphabet) in zip(titles, alphabets.items(), strict=True):
        failing = [case for case in of_alphabet.values() if case.group is not None]
        right = sum(case.group in case.right for case in failing)
        unclear = sum(case.group == UNCLEAR for case in failing)
        wrong = len(failing) - right - unclear
        shares = (share_of(count, len(failing)) for count in (right, wrong, unclear))
        counts.append(
            (title, ALPHABETS[alphabet], f"{len(failing)} of {len(of_alphabet)}", *shares)
        )
    counted = table(
        ("alphabet", "classes", "networks that fail", "right", "another cause", "unclear"), counts
    )
    return f"{table(head, rows)}\n\n{counted}"


def share_of(count: int, n: int) -> str:
    """Return a count as a share with its exact 95% interval (Clopper & Pearson 1934)."""
    interval = binomtest(count, n).proportion_ci(confidence_level=0.95, method="exact")
    return f"{count} ({count / n:.1%}; {interval.low:.1%} to {interval.high:.1%})"


def main(*, write: bool) -> None:
    """Name the causes of stored mutants and of rendered letters, and print the tables."""
    mutants = causes()
    report = f"{tables(mutants)}\n\n{letters_table(letters())}"
    print(report)
    if write:
        keep(RESULTS, mutants)
        write_between(README, "causes", report)


COMMANDS = {
    "": (
        main,
        option(
            "--write",
            action="store_true",
            help="put the tables into README.md, the groups beside it",
        ),
    )
}

if __name__ == "__main__":
    sys.exit(run(COMMANDS, "--write"))
