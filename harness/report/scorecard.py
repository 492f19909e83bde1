"""The top of the report: the verdict and the behaviors that fail, for a stranger with ten seconds."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from harness.checks.families import family_title
from harness.checks.roles import role_title
from harness.measures.panel.consensus import CONSENSUS_SET_ERRORS
from harness.report.closest import margin_lines, signs
from harness.report.headline import headline_lines, sentence
from harness.report.page import Section, inputs, paragraphs, render
from harness.report.text import data_in_words, failures_by_family, judged_of, notes, self_check_failures
from harness.report.wording import case, explained, measured_and_required, reference, where_it_looks
from harness.run.outcome import worst_first

if TYPE_CHECKING:
    from markupsafe import Markup

    from harness.checks import Verdict
    from harness.run.outcome import Outcome


_SHOWN = 6
"""Families that are shown at once."""
_LEADING = 2
"""Pictures that lead the page: few, so the failing behaviors are not far below."""


def verdict_banner(outcome: Outcome) -> Markup:
    """Return the verdict in a plain sentence, the top facts, and the verdict as the terminal has it."""
    kind = "fail" if outcome.verdict == "partial" and outcome.failed else outcome.verdict
    facts, run = [*headline_lines(outcome), *signs(outcome)], {"run": outcome.run, "verdict": outcome.verdict}
    return render("banner", kind=kind, sentence=sentence(outcome), facts=facts, headline=outcome.headline, **run)


def said_first(outcome: Outcome) -> Markup:
    """Return the first facts for a reader: why there is no verdict, and what was left out.

    Where nothing fails, also how near the model is to failing, and where it looks.
    """
    said = [*outcome.errors, *self_check_failures(outcome), *margin_lines(outcome), *outcome.notices]
    said += [*outcome.omissions, outcome.scope, *(f"{name}: failed" for name in outcome.failed_tests)]
    return paragraphs(*said, "" if _failing(outcome) else where_it_looks(outcome))


def what_got_worse(outcome: Outcome) -> Section | None:
    """Return the behaviors that fail, the worst first, with an example; None where none fails."""
    families = failures_by_family(outcome)
    if not families:
        return None
    rows = [_row(failed[0], _counted(failed, of=judged_of(outcome, name))) for name, failed in families.items()]
    body = paragraphs(where_it_looks(outcome, good=False))
    body += render("behaviors", rows=rows, shown=_SHOWN)
    return Section("worse", "Failing behaviors", body, columns=True, beside=_example(outcome, _failing(outcome)))


def _counted(failed: list[Verdict], *, of: int) -> str:
    inconclusive = sum(verdict.status == "inconclusive" for verdict in failed)
    fails = len(failed) - inconclusive
    return f"{fails} of {of} checks fail" if fails else f"{inconclusive} of {of} checks cannot tell"


def _failing(outcome: Outcome) -> list[Verdict]:
    return [verdict for verdict in worst_first(outcome.verdicts) if not verdict.passed]


def _row(verdict: Verdict, counted: str) -> dict[str, Any]:
    """Return the subject of a check, with its measured and its required value."""
    measured, required = measured_and_required(verdict)
    return {
        "behavior": family_title(verdict.check.family),
        "about": explained(verdict.check.family),
        "counted": counted,
        "id": verdict.check.id,
        "case": case(verdict),
        "worse": not verdict.passed,
        "measured": measured,
        "required": required,
        "missed": f"missed by {verdict.missed}" if verdict.missed else verdict.excused,
        "reference": reference(verdict),
    }


def _example(outcome: Outcome, failed: list[Verdict]) -> Section | None:
    """Return the first picture of the worst check that has one, of another image than those that lead the page."""
    leading = {_image_in(picture) for pictures in outcome.consensus_pictures.values() for picture in pictures}
    pictured = [verdict for verdict in failed if verdict.check.id in outcome.examples]
    shown = next((each for each in pictured if _image_in(outcome.examples[each.check.id]) not in leading), None)
    if shown is None:
        return None
    name, title = shown.check.id, family_title(shown.check.family)
    body = render("example", picture=outcome.examples[name], behavior=title, case=case(shown), id=name)
    return Section("example", "Example", body)


def _image_in(picture: str) -> str:
    """Return which image a picture shows, as its words begin; all of it where they do not say so."""
    found = re.search(r'alt="(image \d+),', picture)
    return found[1] if found else picture


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


def consensus_errors(outcome: Outcome) -> Section | None:
    """Return the most telling consensus-set errors with pictures; None of a model that does not fail.

    The pictures show the mean prediction of the reference models. They belong to the check on the consensus set that
    misses its threshold by most, or else to the first one.
    """
    rows = [one for one in worst_first(outcome.verdicts) if one.metric == CONSENSUS_SET_ERRORS.name and one.value]
    shown = next((one for one in rows if one.check.id in outcome.consensus_pictures), None)
    if shown is None or not outcome.failed:
        return None
    assert shown.value is not None
    usual = f" Reference models: {said}." if (said := reference(shown)) else ""
    lead = paragraphs(f"{shown.value:,.0f} wrong predictions, {shown.detail}.{usual}")
    pictures = render("pictures", pictures=outcome.consensus_pictures[shown.check.id][:_LEADING])
    body = lead + pictures + render("its_pictures", id=shown.check.id)
    return Section("known", "Consensus-set errors", body)
