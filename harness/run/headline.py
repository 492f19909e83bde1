"""The verdict of a run as text: its headline, and counts of its checks."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from harness.base.errors import some_of
from harness.checks.check import STATUSES
from harness.checks.families import family_in_words
from harness.run.status import INCONCLUSIVE

if TYPE_CHECKING:
    from harness.run.findings import Findings
    from harness.run.outcome import Outcome
    from harness.run.results import Results

_COUNTED = {"error": "without a result", "informational": "informational (without a threshold)"}
"""The words for a status in a count, where they are others than its name."""


def headline(outcome: Outcome) -> str:
    """Return the verdict in one sentence, with what got worse and the cautions of features."""
    worse = ""
    if outcome.verdict == "fail":
        families = dict.fromkeys(verdict.check.family for verdict in outcome.results.failed)
        names = [*map(family_in_words, families), *outcome.results.failed_tests]
        worse = f"; worse: {', '.join(names)}"
    return f"{_verdict_in_words(outcome)}{worse}{_cautions(outcome)}"


def headline_in_brief(outcome: Outcome) -> str:
    """Return the headline without the names of what fails, for a page that lists them."""
    return f"{_verdict_in_words(outcome)}{_cautions(outcome)}"


def counts_in_words(results: Results) -> str:
    """Return the number of checks with each status, as `12 checks: 3 fail, 9 pass`."""
    numbers = Counter(verdict.status for verdict in results.verdicts)
    counts = []
    for status in STATUSES:
        words = _COUNTED.get(status, status.replace("_", " "))
        if numbers[status]:
            counts.append(f"{numbers[status]} {words}")
    plural = "s" if len(results.verdicts) > 1 else ""
    return f"{len(results.verdicts)} check{plural}: {', '.join(counts)}"


def failing_in_words(results: Results) -> str:
    """Return how many checks and other tests fail, as `3 of 20 checks fail`; empty for none."""
    if not results.fails:
        return ""
    counts = []
    if results.compared:
        counts.append(f"{len(results.failed)} of {results.compared} checks")
    if results.failed_tests:
        plural = "s" if len(results.failed_tests) > 1 else ""
        counts.append(f"{len(results.failed_tests)} other test{plural}")
    verb = "fails" if counts == ["1 other test"] else "fail"
    return f"{' and '.join(counts)} {verb}"


def self_checks_in_words(findings: Findings) -> str:
    """Return how many self-checks pass, of those that apply to the run; empty where none does."""
    applicable = [check for check in findings.self_checks if check.status != "not_applicable"]
    if not applicable:
        return ""
    passing = sum(check.status == "pass" for check in applicable)
    return f"{passing} of {len(applicable)} self-checks pass"


def _cautions(outcome: Outcome) -> str:
    return "".join(f". {caution}" for caution in outcome.cautions)


def _verdict_in_words(outcome: Outcome) -> str:
    results = outcome.results
    passing = f"{results.passing} of {results.compared} checks pass"
    match outcome.verdict:
        case "error":
            return _inconclusive_in_words(results)
        case "partial":
            counted = failing_in_words(results) or passing
            batches = "".join(_restrictions_to_batches(outcome))
            undecided = _undecided_in_words(results)
            return (
                f"PARTIAL{batches}: {counted} of those that ran{undecided}; no verdict on the whole"
            )
        case "fail":
            return f"FAIL{_restrictions(outcome)}: {failing_in_words(results)}"
    informational = ""
    if results.mostly_informational:
        informational = f"; {results.informational} informational"
    return f"PASS{_restrictions(outcome)}: {passing}{informational}"


def _inconclusive_in_words(results: Results) -> str:
    if not results.inconclusive or results.errors:
        return INCONCLUSIVE
    some = some_of([verdict.check.id for verdict in results.inconclusive])
    return f"INCONCLUSIVE: {some}: these images cannot tell the candidate from its original"


def _undecided_in_words(results: Results) -> str:
    undecided = some_of([verdict.check.id for verdict in results.open_checks])
    return f"; undecided: {undecided}" if undecided else ""


def _restrictions(outcome: Outcome) -> str:
    """Return what restricts a verdict, each in brackets, such as a smaller profile."""
    restrictions = []
    if outcome.run.scope:
        restrictions.append(" (quick profile)")
    if outcome.run.stopped:
        restrictions.append(" (stopped at the first certain failure)")
    if outcome.results.provisional:
        restrictions.append(" (provisional)")
    if outcome.results.without_incumbent:
        restrictions.append(" (no incumbent)")
    return "".join([*restrictions, *_restrictions_to_batches(outcome)])


def _restrictions_to_batches(outcome: Outcome) -> list[str]:
    return [f" ({batches})" for batches in outcome.inputs.batches]
