"""The outcome as text.

Markdown for a pull request, lines for the terminal, annotations for GitHub.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, NamedTuple

from harness.base.errors import printable, some_of
from harness.base.features import listed
from harness.base.markdown import code, plain, relative
from harness.checks.roles import role_title
from harness.checks.wording import missed
from harness.report.diagnosis import data_in_words, diagnose, notes
from harness.report.refusal import mark_of_summary
from harness.report.tables import side_by_side
from harness.report.wording import measured_and_required
from harness.run.headline import headline
from harness.run.margins import worst_first
from harness.run.shown import named
from harness.run.status import MEANING, PAGE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import PurePath

    from harness.run.outcome import Outcome

_MOST_SHOWN, _LISTED = 10, 5
"""Failures that a summary shows at once, and remarks of a kind that the terminal lists."""
_EXPLAINED, _NAMED = 3, 5
"""Families in Markdown with their worst failure explained, and further failures of a family that it
names.
"""
PICTURE_LINE = '<img src="'
"""The begin of the line of Markdown with the picture."""
NOT_JUDGED = "the run is inconclusive"
ANNOTATED = 10
"""Annotations of one step that GitHub shows; what comes after is dropped without a word."""
_ENCODED = {"%": "%25", "\r": "%0D", "\n": "%0A"}


class SummaryPicture(NamedTuple):
    """The picture of a summary: its address, words for those who cannot see it, and its caption."""

    image: str
    words: str
    caption: str


def summary_lines(outcome: Outcome, folder: PurePath) -> list[str]:
    """Return what the terminal shows at the end of a run.

    The facts behind the verdict, the verdict, the worst checks, and the path of the report.

    It has the worst failure of each behavior, ten at most; with `-v` pytest lists all of them
    above.
    """
    report, found = folder / PAGE, diagnose(outcome)
    lines = [*notes(outcome), *([outcome.run.scope] if outcome.run.scope else [])]
    lines.append(f"candidate {outcome.inputs.models['candidate']['path']}: {headline(outcome)}")
    lines += [MEANING] if outcome.verdict == "error" else []
    lines += [f"  {line}" for line in (*found.facts, *found.margins, *found.signs)]
    for kind, said in found.remarks.items():
        lines += [f"  {kind}: {line}" for line in said[:_LISTED]]
        lines += (
            [f"  and {len(said) - _LISTED} more like that, listed in the report"]
            if len(said) > _LISTED
            else []
        )
    worst = [
        verdict for verdict in found.worst if verdict.status != "error"
    ]  # Errors are among the remarks.
    lines += [f"  {verdict.explain(str(report))}" for verdict in worst[:_MOST_SHOWN]]
    others = len(worst) - _MOST_SHOWN
    more = "1 more check does" if others == 1 else f"{others} more checks do"
    lines += (
        [f"  and {more} not pass, listed in the report, and above with -v"] if others > 0 else []
    )
    return [printable(line) for line in (*lines, f"report: {report}")]


def markdown(outcome: Outcome) -> str:
    """Return the summary for a pull request or a CI job page, of at most about 5 kB.

    Of long lists it has the first, and how many more there are; each family that fails is there
    with its count.
    """
    icon, found = {"pass": "✅", "partial": "⚠️"}.get(outcome.verdict, "❌"), diagnose(outcome)
    said = [f"- {plain(line)}" for line in (*found.margins, *found.signs)]
    for kind, lines in found.remarks.items():
        written = code if kind == "failed" else plain
        said += [f"- **{kind}**: {written(line)}" for line in lines[:_MOST_SHOWN]]
        more = len(lines) - _MOST_SHOWN
        said += [f"- **{kind}**: {more} more, listed in {PAGE}"] if more > 0 else []
    said += [f"- {plain(outcome.run.scope)}"] if outcome.run.scope else []
    added = listed("stress_summary_lines", outcome=outcome)
    known = [f"- {plain(line)}" for line in (*notes(outcome)[1:], *added)]
    rows = (
        [("family", "failing", "the worst", "measured", "threshold", "missed by", "others")]
        if found.groups
        else []
    )
    for group in found.groups:
        worst, *others = group.failing
        ids = some_of([verdict.check.id for verdict in others], shown=_NAMED) if others else ""
        rows.append(
            (
                group.family,
                group.counted,
                worst.check.id,
                *measured_and_required(worst),
                missed(worst),
                ids,
            )
        )
    blocks = [
        [f"## {icon} Model quality gate: {plain(headline(outcome))}"],
        [*(plain(line) for line in found.facts), f"Report: [{PAGE}]({PAGE})"],
        table(side_by_side(outcome)),
        said,
        table(rows),
        [f"- {plain(group.failing[0].explain())}" for group in found.groups[:_EXPLAINED]],
        _picture(outcome),
        known,
        ["What was judged:"],
        _judged(outcome),
        [f"Reproduce: {code(outcome.run.command)}"],
    ]
    return relative(
        "\n\n".join("\n".join(block) for block in blocks if block) + "\n", outcome.run.folder
    )


def _judged(outcome: Outcome) -> list[str]:
    """Return the models, the data, the origin of the thresholds and the run; the page has more."""
    lines = []
    for role, model in outcome.inputs.models.items():
        sha256 = f" (`{model['sha256'][:12]}`)" if model["sha256"] else ""
        lines.append(f"- {role_title(role)}: {code(model['path'])}{sha256}")

    lines.append(f"- {plain(f'data: {data_in_words(outcome)}')}")
    lines.append(f"- {plain(f'thresholds: {outcome.inputs.provenance}')}")
    if outcome.run.id:
        lines.append(mark_of_summary(outcome.run.id, outcome.verdict))
    return lines


def _picture(outcome: Outcome) -> list[str]:
    """Return the summary's picture and its caption; nothing for a run without one.

    The picture is on a line of its own, therefore a page without the folder of pictures can omit
    it.
    """
    worst = summary_picture(outcome)
    if worst is None:
        return []
    words = escape(printable(worst.words.replace("\n", " ")))
    line = f'{PICTURE_LINE}{named(worst.image, {})}" width="168" alt="{words}">'
    return [line, "", plain(worst.caption)]


def summary_picture(outcome: Outcome) -> SummaryPicture | None:
    """Return the picture of the worst failing check; None if no failing check has one."""
    for verdict in worst_first(outcome.results.verdicts):
        shown = outcome.images.pictures.get(verdict.check.id)
        if verdict.status != "fail" or shown is None:
            continue
        name = verdict.check.id
        for case in shown.cases:
            if case.mapped:
                said = (
                    [f"{name}: {case.wrong}", case.caption]
                    if case.wrong
                    else [f"{name}: {case.caption}"]
                )
                return SummaryPicture(case.mapped, case.said, ". ".join(said))
        for face in shown.faces:
            if face.image:
                return SummaryPicture(face.image, face.words, f"{name}: {face.words}")
    return None


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table of Markdown whose first row has the titles; none without rows."""
    if not rows:
        return []
    titles, *others = ([plain(cell) for cell in row] for row in rows)
    return [f"| {' | '.join(row)} |" for row in (titles, ["---"] * len(titles), *others)]


def annotation_lines(outcome: Outcome, report: PurePath) -> list[str]:
    """Return workflow commands: why the run is inconclusive, and each failing check.

    The worst comes first. Of more than ten the last says how many more there are, and where: in
    `report`.
    """
    found = [(NOT_JUDGED, error) for error in diagnose(outcome).remarks["inconclusive"]]
    found += [
        (each.check.id, each.explain())
        for each in worst_first(outcome.results.verdicts)
        if each.status == "fail"
    ]
    found += [(failure, "failed") for failure in outcome.results.failed_tests]
    if (more := len(found) - ANNOTATED + 1) > 1:
        last = f"{more} more", f"{more} more checks or tests fail; they are listed in {report}"
        found = [*found[: ANNOTATED - 1], last]
    return [annotation(title, message) for title, message in found]


def annotation(title: str, message: str) -> str:
    """Return the workflow command that shows an error.

    Whatever the texts hold, it is one line and one command.
    """
    name, said = (
        "".join(_ENCODED.get(each) or printable(each) for each in text) for text in (title, message)
    )  # Its lines are kept, and what cannot be printed is escaped as in Python.
    return f"::error title={name.replace(':', '%3A').replace(',', '%2C')}::{said}"
