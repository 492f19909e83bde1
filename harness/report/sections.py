"""Sections of a report from its verdicts.

Failures, margins, corruptions, families with a section of their own, and all checks.
"""

from __future__ import annotations

import shlex
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from harness.checks.copied import copied
from harness.checks.families import FAMILIES, family_title
from harness.checks.slices import SLICE
from harness.measures import Unit
from harness.measures.accuracy import ACCURACY
from harness.measures.slices import GROUP_ACCURACY
from harness.report.diagnosis import diagnose
from harness.report.figures import CHANGE, HeatMap, heat_maps
from harness.report.page import (
    Illustration,
    Section,
    figures_html,
    in_lines,
    paragraphs,
    render,
    table,
)
from harness.report.plots import verdict_dots
from harness.report.signs import known_margins
from harness.report.tables import SIGNIFICANT, marked
from harness.report.wording import SIGNS, case, explained, points, reference, row_of, terms
from harness.run.history_line import line_of_incumbent
from harness.run.margins import worst_first
from harness.run.request import rerun_command
from harness.run.shown import ExamplePictures

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure

    from harness.checks import Verdict
    from harness.run.outcome import Outcome

_FEWEST = 2
"""Families of a figure of margins, and corruptions of a map, at least."""
_SEVERITIES = (1, 2, 3, 4, 5)
_FULL = 0.1
"""Difference from the reference models at which the color is full."""
_DRAWN, _LETTERS = 40, 24
"""Groups that a figure has room for, the lowest accuracies, and letters of a group's name."""
_LEADING = 2
"""Pictures that lead the page: few, so the failing behaviors are not far below."""
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
    rows = [
        row_of(group.failing[0]) | {"counted": group.counted} for group in diagnose(outcome).groups
    ]
    return Section("worse", "Failing behaviors", render("behaviors", rows=rows)) if rows else None


def examples(outcome: Outcome) -> Section | None:
    """Return pictures of the most telling consensus-set errors, or of the worst check that has one.

    None for a PASS.

    Consensus-set errors show the mean prediction of the reference models. Theirs is the check that
    misses by most.
    """
    ranked = worst_first(outcome.results.verdicts)
    pictured = [
        one
        for one in ranked
        if (shown := outcome.images.pictures.get(one.check.id)) and shown.cases
    ]
    lost = next((one for one in pictured if one.leads and one.value), None)
    failing = next((one for one in pictured if one.status == "fail"), None)
    if outcome.results.failed and lost is not None:
        usual = f" Reference models: {said}." if (said := reference(lost)) else ""
        lead = f"{lost.value or 0:,.0f} {lost.leads}, {lost.detail}.{usual}"
        name, most = lost.check.id, _LEADING
    elif failing is not None:
        lead = f"From “{family_title(failing.check.family)}”: {case(failing)}."
        name, most = failing.check.id, 1
    else:
        return None
    cases = outcome.images.pictures[name].cases[:most]
    return Section("example", "Examples", render("examples", cases=cases, lead=lead, id=name))


def margins(outcome: Outcome) -> Section | None:
    """Return the smallest margin of each family whose reference models are known.

    None with fewer than two families.

    Failing families stand above with the distance of their worst check, so they are here only
    beside a margin of the incumbent.
    """
    smallest: dict[str, tuple[float, Verdict]] = {}
    for away, verdict in sorted(known_margins(outcome.results.verdicts), key=lambda each: each[0]):
        smallest.setdefault(verdict.check.family, (away, verdict))
    own = line_of_incumbent(outcome)
    theirs = own.margins if own else {}
    rows = []
    for family, (away, verdict) in smallest.items():
        if verdict.status == "fail" and family not in theirs:
            continue
        behavior = render("linked", anchor=explained(family), text=family_title(family))
        margin = marked(_signed(away), "" if verdict.passed else SIGNIFICANT)
        beside = [_signed(theirs[family]) if family in theirs else "–"] if theirs else []
        check = render("linked", anchor=verdict.check.id, text=verdict.check.id)
        rows.append((behavior, margin, *beside, check))
    if len(rows) < _FEWEST:
        return None
    titles = ("behavior", "margin", *(["incumbent"] if theirs else []), "check")
    said = "Distance from the threshold in standard deviations of the reference models, at most 99."
    said += (
        " Negative ones fail." if any(away < 0 for away, _ in smallest.values()) and theirs else ""
    )
    title = (
        "Smallest margin of each behavior" if theirs else "Smallest margin of each passing behavior"
    )
    return Section("margins", title, paragraphs(said, kind="soft") + table(titles, rows))


def _signed(margin: float) -> str:
    return f"{margin:+.1f}".replace("-", "−")


def corruption_map(outcome: Outcome) -> Section | None:
    """Return the candidate's accuracy by corruption and severity, beside reference models.

    Without recorded values, these are missing. Rows with failing checks come first, then the
    largest drops. None with fewer than two corruptions.
    """
    found: dict[str, dict[int, Verdict]] = {}
    for verdict in outcome.results.verdicts:
        keys = verdict.check.keys
        measured = (verdict.check.role, verdict.metric) == (
            "candidate",
            ACCURACY.name,
        ) and verdict.value is not None
        if measured and keys.get("corruption") and keys.get("severity") in _SEVERITIES:
            found.setdefault(str(keys["corruption"]), {})[int(keys["severity"])] = verdict
    if len(found) < _FEWEST:
        return None
    shown = [verdict for verdicts in found.values() for verdict in verdicts.values()]
    compared = all(_drop(verdict) is not None for verdict in shown)

    def urgency(name: str) -> tuple[int, float]:
        verdicts = found[name].values()
        values = [(_drop(verdict) if compared else verdict.value) or 0.0 for verdict in verdicts]
        return -sum(not verdict.passed for verdict in verdicts), sum(values) / len(values)

    judged, failing = (
        sum(verdict.status in of for verdict in shown) for of in ({"pass", "fail"}, {"fail"})
    )
    of = (
        "Accuracy minus the mean of the reference models, in points"
        if compared
        else "Accuracy in percent"
    )
    colors = ": orange is below them, blue above" if compared else ""
    brackets = "; those in brackets are informational" if judged < len(shown) else ""
    crosses = " A cross marks a check that fails; these corruptions come first." if failing else ""
    illustration = Illustration(
        "",
        f"{of}, of {max(verdict.n for verdict in shown):,} images{colors}. {judged} of "
        f"{len(shown)} have a threshold{brackets}.{crosses}",
        f"{of} under {len(found)} corruptions at five severities; {failing} checks fail.",
        lambda: corruption_heat_map(
            {name: found[name] for name in sorted(found, key=urgency)}, compared=compared
        ),
        is_map=True,
    )
    body = figures_html([illustration])
    return Section("damage", "Common corruptions", body, (illustration,))


def corruption_heat_map(found: Mapping[str, Mapping[int, Verdict]], *, compared: bool) -> Figure:
    """Draw accuracy by corruption and severity, or `compared` with the reference models."""
    values, texts = np.full((len(found), len(_SEVERITIES)), np.nan), []
    for row, verdicts in enumerate(found.values()):
        texts.append([""] * len(_SEVERITIES))
        for column, verdict in enumerate(map(verdicts.get, _SEVERITIES)):
            if verdict is not None:
                values[row, column] = drop = (_drop(verdict) if compared else verdict.value) or 0.0
                said = (
                    points(round(drop, 3) + 0.0) if compared else f"{100 * drop:.1f}"
                )  # A zero has no minus.
                fails = "" if verdict.passed else "✗ "
                texts[row][column] = (
                    f"({said})" if verdict.status == "informational" else f"{fails}{said}"
                )
    colors, limits = (CHANGE, (-_FULL, _FULL)) if compared else ("cividis", (0.0, 1.0))
    names = [name.replace("-", " ") for name in found]
    shown = HeatMap("", values, names, colors, limits, texts, columns=tuple("12345"))
    return heat_maps(shown, x="severity", y="", height=0.9 + 0.25 * len(found))


def _drop(verdict: Verdict) -> float | None:
    """Return by how much accuracy differs from the mean of the reference models.

    None where that is not known.
    """
    known = verdict.check.reference
    return (
        None
        if verdict.value is None or known is None or known.mean is None
        else verdict.value - known.mean
    )


def slices(outcome: Outcome) -> Section | None:
    """Return the accuracy of each group, by column; None without such rows."""
    verdicts = [
        one
        for one in outcome.results.verdicts
        if one.check.family == SLICE and one.value is not None
    ]
    clean = [
        one.value
        for one in outcome.results.verdicts
        if (one.check.family, one.metric) == ("clean", ACCURACY.name)
    ]
    drawn = []
    for name in dict.fromkeys(str(one.check.keys.get("by")) for one in verdicts):
        own = [one for one in verdicts if one.check.keys.get("by") == name]
        lowest = sorted(
            (one for one in own if one.metric == GROUP_ACCURACY.name),
            key=lambda one: one.value or 0.0,
        )
        left_out = f" The {_DRAWN} lowest of {len(lowest)}." if len(lowest) > _DRAWN else ""
        failing = sum(one.status == "fail" for one in own)
        spoken = ", ".join(
            f"{one.check.keys.get('group')} {Unit.SHARE.format(one.value or 0.0)}"
            for one in lowest[:5]
        )
        stroke = any(one.threshold is not None for one in lowest[:_DRAWN])
        threshold = "The upright stroke is the threshold. " if stroke else ""
        illustration = Illustration(
            f"Accuracy by {name}",
            "Each group with its 95% interval, and its number of images in brackets. "
            f"{threshold}{failing} of {len(own)} checks by {name} fail; All checks has their "
            f"numbers.{left_out}",
            f"Accuracy of {len(lowest)} groups by {name}. Lowest: {spoken}.",
            lambda lowest=lowest: group_dots(lowest[:_DRAWN], clean[0] if clean else None),  # type: ignore[misc]
        )
        drawn += [illustration] if lowest else []
    if not drawn:
        return None
    return Section("slices", "Groups of images", figures_html(drawn), tuple(drawn))


def group_dots(verdicts: Sequence[Verdict], overall: float | None = None) -> Figure:
    """Draw the accuracy of each group with its 95% interval, threshold and panel.

    `overall` is of all images.
    """
    groups = {f"{str(one.check.keys.get('group'))[:_LETTERS]} ({one.n:,})": one for one in verdicts}
    upright = None if overall is None else (100 * overall, "all images")
    return verdict_dots({"candidate": groups}, x="clean accuracy, %", upright=upright)


def checks(outcome: Outcome) -> Section:
    """Return a row for each check, which links can name by its id, the worst failures first."""
    command, verdicts = shlex.split(outcome.run.command), worst_first(outcome.results.verdicts)
    rows = []
    for order, verdict in enumerate(verdicts):
        name = verdict.check.id
        rerun, shown = (
            rerun_command(command, name),
            outcome.images.pictures.get(name, ExamplePictures()),
        )
        more = render("details", id=name, explanation=verdict.explain(), shown=shown, command=rerun)
        facts = {
            "order": order,
            "command": rerun,
            "row": in_lines(copied(verdict.check)),
            "known": outcome.known_text(name),
            "more": more,
        }
        rows.append(row_of(verdict) | facts)
    counts = Counter(verdict.status for verdict in verdicts).items()
    statuses = [(status, SIGNS[status], count) for status, count in counts]
    return Section(
        "checks",
        "All checks",
        render("checks", columns=_COLUMNS.items(), rows=rows, statuses=statuses),
    )


def words(outcome: Outcome) -> Section:
    """Return the meaning of the behaviors of a run and of the terms of its page, folded.

    Links open it.
    """
    families = dict.fromkeys(verdict.check.family for verdict in outcome.results.verdicts)
    behaviors = [FAMILIES[name] for name in families if name in FAMILIES]
    return Section(
        "words", "Behaviors and terms", render("words", behaviors=behaviors, words=terms().items())
    )
