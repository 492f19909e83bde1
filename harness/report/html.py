"""The pages: the report of a run, the details of each of its tests, and a comparison of two models on its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.report.at_a_glance import informational_note
from harness.report.failures import failures
from harness.report.headline import conclusion
from harness.report.illustrations import figures
from harness.report.page import Section, inputs, paragraphs, render, whole_page
from harness.report.refusal import TITLE
from harness.report.scorecard import hints_list, said_first, verdict_banner
from harness.report.sections import SECTIONS
from harness.report.tables import changes, models
from harness.report.wording import candidate_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from harness.checks import Verdict
    from harness.run.outcome import Outcome
    from harness.run.overview import Overview


def scorecard(outcome: Outcome) -> str:
    """Return the report of a run up to the list of its tests, which pytest-html adds."""
    sections = [section for show in SECTIONS if (section := show(outcome)) is not None]
    lead = informational_note(outcome) + said_first(outcome)
    return str(render("report", banner=verdict_banner(outcome), lead=lead, sections=sections))


def page_title(outcome: Outcome) -> str:
    """Return the title of a report: verdict, file of the candidate, and what the page is."""
    return " · ".join(filter(None, (outcome.verdict.upper(), candidate_name(outcome), TITLE)))


def details(verdict: Verdict, pictures: Sequence[str]) -> str:
    """Return the explanation of one test with its pictures, given as HTML; links name it by `pictures-` and its id."""
    return str(render("details", id=verdict.check.id, explanation=verdict.explain(), pictures=pictures))


def not_made(error: str) -> str:
    """Return the line in the place of a test's pictures when they could not be made."""
    return str(paragraphs(f"the pictures could not be made: {error}"))


def left_out(what: str, command: str) -> str:
    """Return the line that names the omitted pictures of a test, and the command that shows them."""
    return str(render("omitted", omitted=what, command=command))


def comparison_page(
    overview: Overview, flips: Mapping[str, Any], facts: Mapping[str, str], thumbnails: Mapping[int | str, np.ndarray]
) -> str:
    """Return a page that compares two models; `flips` as in `Flips.as_json`, from the second to the first.

    `facts` has the inputs of the comparison by title; `thumbnails` are images (H, W, C) uint8 by their number.
    """
    first, second = (model.name for model in overview.models[:2])
    new, fixed = len(flips["new_failures"]), len(flips["fixed_failures"])
    where = f"All {new} new and {fixed} fixed failures: compare with --failures FILE.csv, or with --json."
    changed = changes("clean images", flips, where=where)
    sections = [
        Section("comparison", "Summary", models(overview)),
        failures(overview, thumbnails),
        figures(overview),
        Section("changes", f"Images that changed from {second} to {first}", changed),
        inputs(facts.items()),
    ]
    lead = paragraphs(conclusion(overview, flips)) + hints_list(overview)
    return whole_page(f"{first} against {second}", lead, sections)
