"""The pages and their sections: the report of a run, and a comparison of two models.

To add a section, write a function that returns a `Section`, or None where there is nothing to say,
and name it in `SECTIONS`.
"""

from __future__ import annotations

from collections import Counter
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from harness.base.errors import printable
from harness.base.features import listed
from harness.checks.roles import role_title
from harness.report.diagnosis import conclusion, data_in_words, diagnose, notes
from harness.report.history import history
from harness.report.mistakes import confusions, failures, label_error_section
from harness.report.page import Section, folded, inputs, paragraphs, render, table, whole_page
from harness.report.plots import figures
from harness.report.refusal import TITLE, bare_page
from harness.report.sections import (
    checks,
    corruption_map,
    examples,
    margins,
    slices,
    what_got_worse,
    words,
)
from harness.report.tables import models, regressions, robust_accuracies
from harness.report.text import summary_lines
from harness.report.wording import SIGNS, candidate_name
from harness.run.headline import headline, headline_in_brief, self_checks_in_words
from harness.run.status import REPORT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from harness.run.outcome import Outcome
    from harness.run.overview import Overview

_OPENED = 40
"""Tests of a list that is not folded, at most."""
_REASONS_ON_TOP = 3
"""Reasons of an inconclusive run in the box at the top, at most; the others stand below it."""


def page_of(outcome: Outcome) -> str:
    """Return the page of a run; a brief one has a verdict and the lines of the terminal alone."""
    found = diagnose(outcome)
    name = candidate_name(outcome)
    if outcome.run.brief:
        why = f"This run made no pictures, so figures are left out. {REPORT} has all numbers."
        return bare_page(
            run=outcome.run.id,
            verdict=outcome.verdict,
            sentence=found.sentence,
            headline=headline(outcome),
            said=[why, *summary_lines(outcome, PurePath())],
            facts={"reproduce": outcome.run.command},
        )
    kind = "fail" if outcome.verdict == "partial" and outcome.results.failed else outcome.verdict
    remarks = {kind: list(lines) for kind, lines in found.remarks.items()}
    reasons = []
    if outcome.verdict == "error":
        why = "inconclusive" if remarks["inconclusive"] else "partial"
        reasons, remarks[why] = remarks[why][:_REASONS_ON_TOP], remarks[why][_REASONS_ON_TOP:]
    banner = render(
        "banner",
        kind=kind,
        sentence=found.sentence,
        facts=[*reasons, *found.facts, *found.signs],
        headline=headline_in_brief(outcome),
        run=outcome.run.id,
        verdict=outcome.verdict,
    )
    said = [f"{kind}: {line}" for kind, lines in remarks.items() for line in lines]
    title = " · ".join(filter(None, (outcome.verdict.upper(), name, TITLE)))
    lead = paragraphs(*found.margins, *said, outcome.run.scope)
    sections = all_sections(outcome)
    return whole_page(title, lead, sections, banner=banner, first=examples(outcome))


def comparison_page(
    overview: Overview,
    flips: Mapping[str, Any],
    facts: Mapping[str, str],
    thumbnails: Mapping[str, str],
) -> str:
    """Return a page that compares two models.

    `flips` are as in `Flips.as_json`, from the second to the first. `facts` has the inputs of the
    comparison by title; `thumbnails` are addresses of images by their number.
    """
    first, second = (model.name for model in overview.models[:2])
    new, fixed = len(flips["new_failures"]), len(flips["fixed_failures"])
    listed = (
        f"All {new} new and {fixed} fixed failures: compare with --failures FILE.csv, or with "
        "--json."
    )
    sections = [
        Section("comparison", "Summary", models(overview) + paragraphs(listed, kind="soft")),
        failures(overview, thumbnails),
        figures(overview),
        inputs(facts.items()),
    ]
    return whole_page(
        f"{first} against {second}", paragraphs(conclusion(overview, flips)), sections
    )


def comparison(outcome: Outcome) -> Section | None:
    """Return the candidate beside the baseline and the incumbent, or why they are not compared."""
    body = paragraphs(outcome.findings.overview_missing)
    if outcome.findings.overview is not None:
        body = models(outcome.findings.overview, robust_accuracies(outcome))
    return Section("comparison", "Comparison with other models", body) if body else None


def coverage(outcome: Outcome) -> Section:
    """Return the inputs of the run, the origin of its thresholds, and its command."""
    facts: list[tuple[str, object]] = [
        (role_title(role), render("code", text=model["path"], beside=model["sha256"][:12]))
        for role, model in outcome.inputs.models.items()
    ]
    pipeline = outcome.inputs.data.get("pipeline")
    facts += [
        ("data", data_in_words(outcome)),
        *([("reference pipeline", pipeline)] if pipeline else []),
        ("reproduce", render("code", text=outcome.run.command)),
        (
            "versions",
            ", ".join(f"{name} {release}" for name, release in outcome.run.versions.items()),
        ),
        ("thresholds", outcome.inputs.provenance),
        *(("", note) for note in notes(outcome)[1:]),
    ]
    return inputs(facts, "Inputs and command")


def self_checks(outcome: Outcome) -> Section | None:
    """Return the results of the run's self-checks."""
    if not outcome.findings.self_checks:
        return None
    rows = [
        (check.name, SIGNS[check.status], check.detail) for check in outcome.findings.self_checks
    ]
    counts = Counter(check.status for check in outcome.findings.self_checks)
    not_applicable = (
        f"{counts['not_applicable']} not applicable" if counts["not_applicable"] else ""
    )
    summary = "; ".join(filter(None, (self_checks_in_words(outcome.findings), not_applicable)))
    shown = table(("self-check", "result", "found"), rows)
    return Section(
        "self-checks", "Self-checks", folded(summary, shown, opened=bool(counts["fail"]))
    )


def differing_predictions(outcome: Outcome) -> Section | None:
    """Return pictures of what the models predict differently."""
    return (
        None
        if outcome.findings.overview is None
        else failures(outcome.findings.overview, outcome.images.thumbnails)
    )


def model_figures(outcome: Outcome) -> Section | None:
    """Return the curves and maps of the comparison of the models."""
    overview = outcome.findings.overview
    return (
        None
        if overview is None
        else figures(overview, outcome.results.verdicts, outcome.findings.reference_curves)
    )


def tests(outcome: Outcome) -> Section | None:
    """Return the tests that no check stands for, errors, and what else tests printed."""
    if not outcome.results.tests:
        return None
    rows = sorted(
        (
            (each.name, each.outcome, Markup("\n").join(map(printable, each.text.splitlines())))
            for each in outcome.results.tests
        ),
        key=lambda row: row[1] not in {"failed", "error"},
    )
    counts = ", ".join(
        f"{count} {name}"
        for name, count in Counter(each.outcome for each in outcome.results.tests).items()
    )
    body = folded(
        f"{len(rows)} tests: {counts}", render("tests", rows=rows), opened=len(rows) <= _OPENED
    )
    return Section("tests", "Tests without a check", body)


SECTIONS: tuple[Callable[[Outcome], Section | None], ...] = (
    what_got_worse,
    margins,
    slices,
    comparison,
    corruption_map,
    differing_predictions,
    confusions,
    label_error_section,
    history,
    coverage,
    model_figures,
    self_checks,
    regressions,
    checks,
    words,
    tests,
)
"""Sections of a report, from top to bottom, without those of features.

Its contents follow from them.

The examples are not among them: they stand above the contents, on the first screen.
"""


def all_sections(outcome: Outcome) -> list[Section | None]:
    """Return the sections of a report from top to bottom, those of features among them.

    None for an empty one.
    """
    names = [show.__name__ for show in SECTIONS]
    sections = [show(outcome) for show in SECTIONS]
    for section in listed("stress_sections", outcome=outcome):
        if section is None:
            continue
        place = names.index(section.before) if section.before in names else len(names)
        names.insert(place, "")
        sections.insert(place, section)
    return sections
