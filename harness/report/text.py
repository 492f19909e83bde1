"""The outcome as text: JSON for tools, Markdown for a pull request, lines for the terminal, annotations for GitHub."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

from harness.base.codes import Code, coded
from harness.base.errors import printable, some_of
from harness.base.markdown import code, plain
from harness.checks.roles import role_title
from harness.measures.statistics import related
from harness.perturb import IDENTITY
from harness.report.closest import closest_lines
from harness.report.family_sections import losses_by_serving
from harness.report.headline import headline_lines
from harness.report.refusal import mark_of_summary
from harness.report.tables import side_by_side
from harness.report.wording import measured_and_required, points
from harness.run.outcome import Outcome, worst_first
from harness.run.status import MEANING, PAGE

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from harness.checks import Verdict
    from harness.run.outcome import Outcome


_REASONS = 5
"""Reasons shown, at most, for which checks are not applicable."""
_MOST_SHOWN = 10
"""Number of failures that a summary shows at once."""
_LISTED = 5
"""Number of errors, of omissions and of failed tests that a summary on the terminal lists."""
_EXPLAINED = 3
"""Number of failures that Markdown explains, each of another family."""
_NAMED = 5
"""Number of further failures of a family that Markdown names."""
_FAILING = frozenset({"fail", "error", "inconclusive"})
NOT_JUDGED = "the run is inconclusive"
ANNOTATED = 10
"""Annotations of one step that GitHub shows; what comes after is dropped without a word."""
_ENCODED = {"%": "%25", "\r": "%0D", "\n": "%0A"}


def as_json(outcome: Outcome) -> str:
    """Return the content of `stress.json`."""
    return json.dumps(outcome.as_json(), indent=1, default=str) + "\n"


def summary_lines(outcome: Outcome, folder: Path) -> list[str]:
    """Return what the terminal shows at the end of a run: what bears upon the verdict, then it, what is worst, a path.

    It has the worst failure of each behavior, ten at most; with `-v` pytest lists all of them above.
    """
    report = folder / PAGE
    lines = [*notes(outcome), *([outcome.scope] if outcome.scope else [])]
    lines.append(f"candidate {outcome.models['candidate']['path']}: {outcome.headline}")
    lines += [MEANING] if outcome.verdict == "error" else []
    lines += [f"  {line}" for line in (*headline_lines(outcome), *closest_lines(outcome))]
    lines += [f"  note: {notice}" for notice in outcome.notices]
    unjudged = [*outcome.errors, *self_check_failures(outcome)]
    failed_tests = [f"{failure}: failed" for failure in outcome.failed_tests]
    for said in ([f"partial: {omission}" for omission in outcome.omissions], unjudged, failed_tests):
        lines += [f"  {line}" for line in said[:_LISTED]]
        lines += [f"  and {len(said) - _LISTED} more like that, listed in the report"] if len(said) > _LISTED else []
    # The worst of each family, then the others; a failure comes before what is inconclusive.
    families = [*failures_by_family(outcome, statuses={"fail", "inconclusive"}).values()]
    worst = [failed[0] for failed in families] + [verdict for failed in families for verdict in failed[1:]]
    lines += [f"  {verdict.explain(str(report))}" for verdict in worst[:_MOST_SHOWN]]
    others = len(worst) - _MOST_SHOWN
    more = "1 more check does" if others == 1 else f"{others} more checks do"
    lines += [f"  and {more} not pass, listed in the report, and above with -v"] if others > 0 else []
    lines.append(f"report: {report}")
    return [printable(line) for line in lines]


def failures_by_family(outcome: Outcome, *, statuses: Collection[str] = _FAILING) -> dict[str, list[Verdict]]:
    """Return the verdicts of these statuses by family, in both the worst first."""
    families: dict[str, list[Verdict]] = {}
    for verdict in worst_first(outcome.verdicts):
        if verdict.status in statuses:
            families.setdefault(verdict.check.family, []).append(verdict)
    return families


def judged_of(outcome: Outcome, family: str) -> int:
    """Return how many checks of a family were to be judged."""
    return sum(each.check.family == family and each.status in {"pass", *_FAILING} for each in outcome.verdicts)


def notes(outcome: Outcome) -> list[str]:
    """Return what bears on the verdict: hand thresholds, informational checks, self-checks, regressions."""
    said = [f"thresholds: {outcome.provenance}", *outcome.remarks]
    if outcome.differences:
        said.append(outcome.differences.sentence)
    by_hand = [verdict.check for verdict in outcome.verdicts if verdict.check.by_hand]
    if hand := [check.id for check in by_hand if not check.is_tolerance]:
        said.append(f"{len(hand)} of the thresholds set by hand: {some_of(hand)}")
    if tolerances := [check.id for check in by_hand if check.is_tolerance]:
        said.append(f"{len(tolerances)} of the thresholds are tolerances set by hand: {some_of(tolerances)}")
    if any(verdict.status in {"informational", "not_applicable"} for verdict in outcome.verdicts):
        said.append(outcome.counts)
    if checks := [check for check in outcome.self_checks if check.status != "not_applicable"]:
        passing = sum(check.status == "pass" for check in checks)
        said.append(f"{passing} of {len(checks)} self-checks pass")
    said += _not_applicable(outcome)
    for verdict in outcome.verdicts:
        if verdict.flips and verdict.check.pose == IDENTITY:
            lost, gained = len(verdict.flips["new_failures"]), len(verdict.flips["fixed_failures"])
            said.append(
                f"against the last accepted model (incumbent): {lost} new failures, {gained} fixed, "
                f"net {points(verdict.flips['net'])} points (McNemar p {related(verdict.flips['mcnemar_p'])})"
            )
    return said


def _not_applicable(outcome: Outcome) -> list[str]:
    """Return a line for each reason for which checks are not applicable, those of most checks first."""

    def checks(count: int) -> str:
        return "1 check" if count == 1 else f"{count} checks"

    reasons: dict[str, list[str]] = {}
    for verdict in outcome.verdicts:
        if verdict.status == "not_applicable":
            reasons.setdefault(verdict.detail, []).append(verdict.check.family)
    ranked = sorted(reasons.items(), key=lambda item: -len(item[1]))
    said = [
        f"{checks(len(families))} not applicable ({some_of(list(dict.fromkeys(families)))}): {reason}"
        for reason, families in ranked[:_REASONS]
    ]
    if more := sum(len(families) for _, families in ranked[_REASONS:]):
        said.append(f"{checks(more)} not applicable for other reasons, which the report lists")
    return said


def data_in_words(outcome: Outcome) -> str:
    """Return which images were judged; of a run that ended before it read them, which were named."""
    data = outcome.data
    return f"{data['name']}, {data['split']} split, {data['n']} images" if data["n"] else str(data["name"])


def self_check_failures(outcome: Outcome) -> list[str]:
    """Return a line for each self-check that failed, but for a cause that checks met, too."""
    causes = tuple(verdict.detail for verdict in outcome.verdicts if verdict.status == "error" and verdict.detail)
    return [
        coded(Code.SELF_CHECK, f"self-check {check.name}: {check.detail}")
        for check in outcome.self_checks
        if check.status == "fail" and not check.detail.endswith(causes)
    ]


def markdown(outcome: Outcome) -> str:
    """Return the summary for a pull request or a CI job page, of at most about 5 kB.

    Of long lists it has the first, and how many more there are; each family that fails is there with its count.
    """
    icon = {"pass": "✅", "partial": "⚠️"}.get(outcome.verdict, "❌")
    unjudged = [plain(error) for error in (*outcome.errors, *self_check_failures(outcome))]
    said_first = _first("**inconclusive**", unjudged)
    for title, lines in (
        ("", closest_lines(outcome)),
        ("**note**: ", outcome.notices),
        ("partial: ", outcome.omissions),
        ("", [outcome.scope] if outcome.scope else []),
    ):
        said_first += [f"- {title}{plain(line)}" for line in lines]
    said_first += _first("failed", [code(failure) for failure in outcome.failed_tests])
    judged = []
    for role, model in outcome.models.items():
        sha256 = f" (`{model['sha256'][:12]}`)" if model["sha256"] else ""
        judged.append(f"- {role_title(role)}: {code(model['path'])}{sha256}")
    judged.append(f"- data: {plain(data_in_words(outcome))}")
    if pipeline := outcome.data.get("pipeline"):
        judged.append(f"- reference pipeline: {plain(pipeline)}")
    judged += [f"- {plain(line)}" for line in (*losses_by_serving(outcome), *notes(outcome))]
    judged += [mark_of_summary(outcome.run, outcome.verdict)] if outcome.run else []
    blocks = [
        [f"## {icon} Model quality gate: {plain(outcome.headline)}"],
        [*(plain(line) for line in headline_lines(outcome)), f"Report: [{PAGE}]({PAGE})"],
        table(side_by_side(outcome)),
        said_first,
        *_what_fails(outcome),
        ["What was judged:"],
        judged,
        [f"Reproduce: {code(outcome.command)}"],
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def _first(title: str, said: Sequence[str]) -> list[str]:
    more = len(said) - _MOST_SHOWN
    lines = [f"- {title}: {each}" for each in said[:_MOST_SHOWN]]
    return [*lines, f"- {title}: {more} more, listed in stress.html"] if more > 0 else lines


def _what_fails(outcome: Outcome) -> list[list[str]]:
    """Return a table of the families that fail, the worst first, what was found of three, and the others by name."""
    families = failures_by_family(outcome)
    rows = [("family", "failing", "the worst", "measured", "threshold", "missed by")] if families else []
    for family, failed in families.items():
        worst, of = failed[0], judged_of(outcome, family)
        counts: Counter[str] = Counter(verdict.status for verdict in failed)
        said = {"fail": "", "inconclusive": " cannot tell", "error": " not judged"}
        failing = ", ".join(f"{counts[status]} of {of}{words}" for status, words in said.items() if counts[status])
        numbers = ("", "") if worst.value is None else measured_and_required(worst)
        rows.append((family, failing, worst.check.id, *numbers, worst.missed))
    found = [f"- {plain(worst.explain())}" for worst, *_ in list(families.values())[:_EXPLAINED]]
    more = {family: [verdict.check.id for verdict in others] for family, (_, *others) in families.items() if others}
    if not more:
        return [table(rows), found]
    opening = f"<details><summary>{sum(map(len, more.values()))} more; stress.html has the numbers of all</summary>"
    names = [f"- {plain(family)}: {some_of(ids, shown=_NAMED)}" for family, ids in more.items()]
    return [table(rows), found, [opening], names, ["</details>"]]


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table of Markdown whose first row has the titles; none without rows."""
    if not rows:
        return []
    titles, *others = ([plain(cell) for cell in row] for row in rows)
    return [f"| {' | '.join(row)} |" for row in (titles, ["---"] * len(titles), *others)]


def annotation_lines(outcome: Outcome, report: Path) -> list[str]:
    """Return a workflow command for why the run is inconclusive, and for each check that fails, the worst first.

    Of more than ten the last says how many more there are, and where: in `report`.
    """
    found = [(NOT_JUDGED, error) for error in (*outcome.errors, *self_check_failures(outcome))]
    failed = [verdict for verdict in worst_first(outcome.verdicts) if verdict.status == "fail"]
    found += [(verdict.check.id, verdict.explain()) for verdict in failed]
    found += [(failure, "failed") for failure in outcome.failed_tests]
    if (more := len(found) - ANNOTATED + 1) > 1:
        last = f"{more} more", f"{more} more checks or tests fail; they are listed in {report}"
        found = [*found[: ANNOTATED - 1], last]
    return [annotation(title, message) for title, message in found]


def annotation(title: str, message: str) -> str:
    """Return the workflow command that shows an error; whatever the texts hold, it is one line and one command."""
    name = _data(title).replace(":", "%3A").replace(",", "%2C")
    return f"::error title={name}::{_data(message)}"


def _data(text: str) -> str:
    """Return text with its lines kept as a workflow command does, and what cannot be printed escaped as in Python."""
    return "".join(_ENCODED.get(each) or printable(each) for each in text)
