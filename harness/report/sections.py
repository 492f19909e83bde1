"""The sections of a run's report, in their order: each a function of recorded results alone.

To add one, write a function that returns a `Section`, or None where there is nothing to say, and name it in `SECTIONS`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.report.at_a_glance import corruption_map, margins
from harness.report.check_table import checks
from harness.report.confusions import confusions
from harness.report.equality import differences
from harness.report.failures import failures
from harness.report.family_sections import golden, serving, slices
from harness.report.history import history
from harness.report.illustrations import figures
from harness.report.label_errors import label_error_section
from harness.report.page import Section, folded, paragraphs, table
from harness.report.reference_values import as_checked, reference_values
from harness.report.scorecard import consensus_errors, coverage, what_got_worse
from harness.report.tables import SIGNS, models, regressions, robust_accuracies
from harness.report.wording import words

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.run.outcome import Outcome
    from harness.run.overview import Overview


def of_models(show: Callable[[Overview], Section | None]) -> Callable[[Outcome], Section | None]:
    """Return a section of the models side by side as one of a run, which may not have compared them."""

    def of_run(outcome: Outcome) -> Section | None:
        return None if outcome.overview is None else show(outcome.overview)

    return of_run


def comparison(outcome: Outcome) -> Section | None:
    """Return the candidate beside the baseline and the incumbent, or why they could not be compared."""
    title = "Comparison with other models"
    if outcome.overview is not None:
        return Section("comparison", title, models(outcome.overview, robust_accuracies(outcome)))
    if outcome.overview_missing:
        return Section("comparison", title, paragraphs(outcome.overview_missing))
    return None


def mistakes(outcome: Outcome) -> Section | None:
    """Return the errors of the candidate by kind, with small pictures of them."""
    return None if outcome.overview is None else failures(outcome.overview, outcome.thumbnails)


def curves_and_maps(outcome: Outcome) -> Section | None:
    """Return the figures of the models, with what the checks state of the candidate and of the reference models."""
    if outcome.overview is None:
        return None
    return figures(
        as_checked(outcome.overview, outcome.verdicts), reference_values(outcome.verdicts, outcome.reference_curves)
    )


def self_checks(outcome: Outcome) -> Section | None:
    """Return the results of the run's self-checks."""
    if not outcome.self_checks:
        return None
    rows = [(check.name, SIGNS[check.status], check.detail) for check in outcome.self_checks]
    titles = ("self-check", "result", "found")
    failed = sum(check.status == "fail" for check in outcome.self_checks)
    said = f"{failed} of {len(rows)} self-checks fail" if failed else f"{len(rows)} self-checks, and none fails"
    return Section("self-checks", "Self-checks", folded(said, table(titles, rows), opened=bool(failed)))


def tests(_outcome: Outcome) -> Section:
    """Return the heading of the list of other tests, which pytest-html adds; the page drops an empty one."""
    return Section("tests", "Tests without a check")


SECTIONS: tuple[Callable[[Outcome], Section | None], ...] = (
    consensus_errors,
    what_got_worse,
    margins,
    differences,
    golden,
    slices,
    comparison,
    corruption_map,
    serving,
    mistakes,
    confusions,
    label_error_section,
    history,
    coverage,
    curves_and_maps,
    self_checks,
    regressions,
    checks,
    words,
    tests,
)
"""Sections of a report, from top to bottom; its contents follow from them."""
