"""Sections of a report from its verdicts: what fails, families with images of their own, all checks, and words."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from typing import TYPE_CHECKING

from markupsafe import Markup

from harness.checks.families import FAMILIES, family_title
from harness.checks.golden import GOLDEN
from harness.checks.slices import SKEW
from harness.report.diagnosis import diagnose, losses_by_serving
from harness.report.gallery import Face, sheet
from harness.report.page import Section, paragraphs, render
from harness.report.wording import SIGNS, case, reference, row_of, terms
from harness.run.outcome import worst_first
from harness.run.request import rerun_command

if TYPE_CHECKING:
    from harness.checks import Verdict
    from harness.run.outcome import Outcome

_LEADING = 2
"""Pictures that lead the page: few, so the failing behaviors are not far below."""
_PICTURED = 48
"""Golden images with a picture, wrong ones first."""
_COLUMNS = {
    "check": "",
    "status": "",
    "measured": "",
    "threshold": "threshold",
    "missed by": "",
    "reference models": "reference-models",
    "minimum detectable drop": "minimum-detectable-drop",
    "n": "",
    "detail": "",
}
"""The titles of the columns of all checks, and under which anchor the page says what they mean."""


def what_got_worse(outcome: Outcome) -> Section | None:
    """Return the behaviors that fail, the worst first; None where none fails."""
    rows = [row_of(group.failing[0]) | {"counted": group.counted} for group in diagnose(outcome).groups]
    return Section("worse", "Failing behaviors", render("behaviors", rows=rows)) if rows else None


def examples(outcome: Outcome) -> Section | None:
    """Return the most telling consensus-set errors, and a failure of the worst check that has one of another image.

    Consensus-set errors show the mean prediction of the reference models. Theirs is the check that misses by most.
    """
    failing = [one for one in worst_first(outcome.verdicts) if not one.passed]
    shown, seen = [], set()
    lost = (one for one in worst_first(outcome.verdicts) if one.check.id in outcome.consensus_pictures)
    if outcome.failed and (one := next(lost, None)) is not None and one.value:
        usual = f" Reference models: {said}." if (said := reference(one)) else ""
        lead = f"{one.value:,.0f} consensus-set errors, {one.detail}.{usual}"
        shown = [(each, lead, one.check.id) for each in outcome.consensus_pictures[one.check.id][:_LEADING]]
        seen = {_image_in(picture) for pictures in outcome.consensus_pictures.values() for picture in pictures}
    for one in failing:
        picture = outcome.examples.get(one.check.id, "")
        if picture and _image_in(picture) not in seen:
            shown.append((picture, f"From “{family_title(one.check.family)}”: {case(one)}.", one.check.id))
            break
    return Section("example", "Examples", render("examples", shown=shown)) if shown else None


def _image_in(picture: str) -> str:
    """Return which image a picture shows, as its words begin; all of it where they do not say so."""
    found = re.search(r'alt="(image \d+),', picture)
    return found[1] if found else picture


def golden(outcome: Outcome) -> Section | None:
    """Return the golden images, wrong ones first; None without golden images."""
    verdicts = worst_first(tuple(one for one in outcome.verdicts if one.check.family == GOLDEN))
    if not verdicts:
        return None
    faces = []
    for one in verdicts[:_PICTURED]:
        name, true, sign = one.check.id, one.check.class_name or "", SIGNS[one.status]
        if (pixels := outcome.thumbnails.get(name)) is not None:
            faces.append(Face(pixels, true, sign, name, f"{name}: {true}, {sign}", wrong=not one.passed))
    correct = sum(one.passed for one in verdicts)
    lead = f"{correct} of {len(verdicts)} images that must never be wrong again are correct; reasons are in All checks."
    return Section("golden", "Golden set", paragraphs(lead) + sheet("", faces))


def serving(outcome: Outcome) -> Section | None:
    """Return the costliest of the serving pipelines that checks measured; None without such rows."""
    own = [one for one in outcome.verdicts if one.check.family == SKEW and one.value is not None]
    if not own:
        return None
    pipelines, failing = len({one.check.keys.get("skew") for one in own}), sum(one.status == "fail" for one in own)
    body = paragraphs(
        f"The reference pipeline: {outcome.data.get('pipeline', 'unknown')}.",
        f"Of {pipelines} other pipelines, {failing} of {len(own)} checks fail. The costliest first:",
    )
    body += render("listed", lines=losses_by_serving(outcome))
    return Section("serving", "Served through another pipeline", body)


def checks(outcome: Outcome) -> Section:
    """Return a row for each check, which links can name by its id, the worst failures first."""
    verdicts = worst_first(outcome.verdicts)
    families = {name: str(at) for at, name in enumerate(dict.fromkeys(one.check.family for one in verdicts))}
    about = dict.fromkeys(name for verdict in verdicts for name in _of_classes(verdict))
    known = [name for name in outcome.data.get("classes", ()) if name in about]  # In the order of the data's.
    classes = {name: str(at) for at, name in enumerate(dict.fromkeys([*known, *about]))}
    command = shlex.split(outcome.command)
    rows = [
        row_of(verdict)
        | {
            "order": order,
            "family": families[verdict.check.family],
            "classes": " ".join(classes[name] for name in _of_classes(verdict)),
            "command": rerun_command(command, verdict.check.id),
            "known": outcome.known_text(verdict.check.id),
            "more": Markup(outcome.details.get(verdict.check.id, "")),  # noqa: S704  Made by our templates.
        }
        for order, verdict in enumerate(verdicts)
    ]
    counts = Counter(verdict.status for verdict in verdicts)
    body = render(
        "checks",
        columns=_COLUMNS.items(),
        rows=rows,
        families=[(at, family_title(name)) for name, at in families.items()],
        classes=[(at, name) for name, at in classes.items()],
        statuses=[(status, SIGNS[status], count) for status, count in counts.items()],
    )
    return Section("checks", "All checks", body)


def _of_classes(verdict: Verdict) -> tuple[str, ...]:
    """Return the classes that a check is about: one, the two of a pair, or none."""
    pair = verdict.check.keys.get("pair") or ()
    return (verdict.check.class_name,) if verdict.check.class_name else tuple(map(str, pair))


def words(outcome: Outcome) -> Section:
    """Return the meaning of the behaviors of a run and of the terms of its page, folded; links open it."""
    families = dict.fromkeys(verdict.check.family for verdict in outcome.verdicts)
    behaviors = [FAMILIES[name] for name in families if name in FAMILIES]
    return Section("words", "Behaviors and terms", render("words", behaviors=behaviors, words=terms().items()))
