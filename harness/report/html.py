"""The pages and their sections: the report of a run, the details of its tests, and a comparison of two models.

To add a section, write a function that returns a `Section`, or None where there is nothing to say, and name it in
`SECTIONS`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.base.features import features, resolve, with_added
from harness.checks.roles import role_title
from harness.report.diagnosis import conclusion, data_in_words, diagnose, notes
from harness.report.history import history
from harness.report.mistakes import confusions, failures, label_error_section
from harness.report.model_figures import figures
from harness.report.page import Section, folded, inputs, paragraphs, render, table, whole_page
from harness.report.refusal import TITLE
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
from harness.report.wording import SIGNS, candidate_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np

    from harness.checks import Verdict
    from harness.run.outcome import Outcome
    from harness.run.overview import Overview


def scorecard(outcome: Outcome) -> str:
    """Return the report of a run up to the list of its tests, which pytest-html adds."""
    found = diagnose(outcome)
    kind = "fail" if outcome.verdict == "partial" and outcome.failed else outcome.verdict
    banner = render(
        "banner",
        kind=kind,
        sentence=found.sentence,
        facts=[*found.facts, *found.signs],
        headline=outcome.headline,
        run=outcome.run,
        verdict=outcome.verdict,
    )
    said = [f"{kind}: {line}" for kind, lines in found.remarks.items() for line in lines]
    lead = paragraphs(*found.margins, *said, outcome.scope)
    sections = [section for show in all_sections() if (section := show(outcome)) is not None]
    return str(render("report", banner=banner, lead=lead, sections=sections))


def page_title(outcome: Outcome) -> str:
    """Return the title of a report: verdict, file of the candidate, and what the page is."""
    return " · ".join(filter(None, (outcome.verdict.upper(), candidate_name(outcome), TITLE)))


def details(verdict: Verdict, pictures: Sequence[str]) -> str:
    """Return the explanation of one test with its pictures, given as HTML; links name it by `pictures-` and its id."""
    return str(render("details", id=verdict.check.id, explanation=verdict.explain(), pictures=pictures))


def comparison_page(
    overview: Overview, flips: Mapping[str, Any], facts: Mapping[str, str], thumbnails: Mapping[int | str, np.ndarray]
) -> str:
    """Return a page that compares two models; `flips` as in `Flips.as_json`, from the second to the first.

    `facts` has the inputs of the comparison by title; `thumbnails` are images (H, W, C) uint8 by their number.
    """
    first, second = (model.name for model in overview.models[:2])
    new, fixed = len(flips["new_failures"]), len(flips["fixed_failures"])
    listed = f"All {new} new and {fixed} fixed failures: compare with --failures FILE.csv, or with --json."
    sections = [
        Section("comparison", "Summary", models(overview) + paragraphs(listed, kind="soft")),
        failures(overview, thumbnails),
        figures(overview),
        inputs(facts.items()),
    ]
    return whole_page(f"{first} against {second}", paragraphs(conclusion(overview, flips)), sections)


def comparison(outcome: Outcome) -> Section | None:
    """Return the candidate beside the baseline and the incumbent, or why they could not be compared."""
    body = paragraphs(outcome.overview_missing)
    if outcome.overview is not None:
        body = models(outcome.overview, robust_accuracies(outcome))
    return Section("comparison", "Comparison with other models", body) if body else None


def coverage(outcome: Outcome) -> Section:
    """Return the inputs of the run, the origin of its thresholds, and the command to reproduce it."""
    facts: list[tuple[str, object]] = [
        (role_title(role), render("code", text=model["path"], beside=model["sha256"][:12]))
        for role, model in outcome.models.items()
    ]
    pipeline = outcome.data.get("pipeline")
    facts += [
        ("data", data_in_words(outcome)),
        *([("reference pipeline", pipeline)] if pipeline else []),
        ("reproduce", render("code", text=outcome.command)),
        ("versions", ", ".join(f"{name} {release}" for name, release in outcome.versions.items())),
        ("thresholds", outcome.provenance),
        *(("", note) for note in notes(outcome)[1:]),
    ]
    return inputs(facts, "Inputs and command")


def self_checks(outcome: Outcome) -> Section | None:
    """Return the results of the run's self-checks."""
    if not outcome.self_checks:
        return None
    rows = [(check.name, SIGNS[check.status], check.detail) for check in outcome.self_checks]
    failed = sum(check.status == "fail" for check in outcome.self_checks)
    said = f"{failed} of {len(rows)} self-checks fail" if failed else f"{len(rows)} self-checks, and none fails"
    shown = table(("self-check", "result", "found"), rows)
    return Section("self-checks", "Self-checks", folded(said, shown, opened=bool(failed)))


def differing_predictions(outcome: Outcome) -> Section | None:
    """Return pictures of what the models predict differently."""
    return None if outcome.overview is None else failures(outcome.overview, outcome.thumbnails)


def model_figures(outcome: Outcome) -> Section | None:
    """Return the curves and maps of the comparison of the models."""
    overview = outcome.overview
    return None if overview is None else figures(overview, outcome.verdicts, outcome.reference_curves)


def tests(_outcome: Outcome) -> Section:
    """Return the heading of the list of other tests, which pytest-html adds; the page drops an empty one."""
    return Section("tests", "Tests without a check")


SECTIONS: tuple[Callable[[Outcome], Section | None], ...] = (
    what_got_worse,
    examples,
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
"""Sections of a report, from top to bottom, without those of features; its contents follow from them."""


def all_sections() -> list[Callable[[Outcome], Section | None]]:
    """Return what makes the sections of a report, those of features among them."""
    own = {show.__name__: show for show in SECTIONS}
    added = [(made, resolve(made), before) for each in features() for made, before in each.sections.items()]
    return [*with_added(own, added).values()]
