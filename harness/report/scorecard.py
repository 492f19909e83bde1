"""The top of the report: the verdict and what got worse, for a stranger with ten seconds."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from harness.report.tables import comparison_table
from harness.report.text import notes, self_check_failures
from harness.report.wording import case, family, healthy, hints, required, sentence, where_it_looks
from harness.run.outcome import worst_first
from harness.run.overview import Rate

if TYPE_CHECKING:
    from harness.gates import Verdict
    from harness.run.outcome import Outcome

_SHOWN = 6
"""Families that are shown at once."""
_CLOSEST = 4
"""Behaviours that a run in which all holds names as the closest to failing."""
_HEAD = (
    '<tr><th>behaviour</th><th>{}</th><th class="number">measured</th><th class="number">must be</th>'
    '<th class="number">healthy models</th></tr>'
)


def verdict_banner(outcome: Outcome) -> str:
    """Return the verdict in a plain sentence, and in the words that the terminal has for it."""
    kind = "fail" if outcome.verdict == "partial" and outcome.failed else outcome.verdict
    return (
        f'<div class="headline {kind}"><strong>{escape(sentence(outcome))}</strong>'
        f"<span>{escape(outcome.headline)}</span></div>"
    )


def said_first(outcome: Outcome) -> list[str]:
    """Return what a reader must know before anything else: why there is no verdict, and what was left out."""
    said = [*outcome.errors, *self_check_failures(outcome), *outcome.omissions]
    said += [outcome.scope] if outcome.scope else []
    said += [f"{failure}: failed" for failure in outcome.failures]
    return [f"<p>{escape(line)}</p>" for line in said]


def what_got_worse(outcome: Outcome) -> list[str]:
    """Return what got worse first, by behaviour, with an example; or what is closest to failing when nothing did."""
    failed = [verdict for verdict in worst_first(outcome.verdicts) if verdict.status in {"fail", "error"}]
    found = [f"<li><b>{escape(what)}</b>: {escape(figures)}</li>" for what, figures in hints(outcome.overview)]
    if looks := where_it_looks(outcome.overview):
        found.append(f'<li class="plain">{escape(looks)}</li>')
    parts = [f'<ul class="hints">{"".join(found)}</ul>'] if found else []
    if not failed:
        return [*parts, *_closest(outcome)]
    example = _example(outcome, failed)
    families: dict[str, list[Verdict]] = {}
    for verdict in failed:
        families.setdefault(verdict.gate.family, []).append(verdict)
    rows = [_family_row(outcome, name, verdicts) for name, verdicts in families.items()]
    head = _HEAD.format("its worst case")
    shown = f'<table class="cards">{head}{"".join(rows[:_SHOWN])}</table>'
    rest = rows[_SHOWN:]
    if rest:
        more = f"{len(rest)} more behaviour{'s' if len(rest) > 1 else ''}"
        shown += f'<details><summary>{more}</summary><table class="cards">{head}{"".join(rest)}</table></details>'
    alone = "" if example else " alone"
    return [
        '<div class="columns">',
        f'<div class="part{alone}"><h2 id="report-worse">What got worse</h2>{"".join(parts)}{shown}</div>',
        f"<div>{example}</div></div>" if example else "</div>",
    ]


def _family_row(outcome: Outcome, name: str, failed: list[Verdict]) -> str:
    worst = failed[0]
    judged = sum(
        verdict.gate.family == name and verdict.status in {"pass", "fail", "error"} for verdict in outcome.verdicts
    )
    return (
        f'<tr><td>{escape(family(name))}<br><span class="soft">{len(failed)} of {judged} checks fail</span></td>'
        f"{_numbers(worst)}</tr>"
    )


def _numbers(verdict: Verdict) -> str:
    """Return the cells that say what a gate is about, what was measured, and what should have been."""
    worse = "" if verdict.passed else " worse"
    measured = escape(verdict.detail if verdict.value is None else verdict.unit.format(verdict.value))
    known = healthy(verdict)
    return (
        f'<td><a href="#{escape(verdict.gate.id)}">{escape(case(verdict))}</a></td>'
        f'<td class="number{worse}" data-title="measured">{measured}</td>'
        f'<td class="number" data-title="must be">{escape(required(verdict))}</td>'
        + (f'<td class="number" data-title="healthy models">{escape(known)}</td>' if known else "<td></td>")
    )


def _example(outcome: Outcome, failed: list[Verdict]) -> str:
    """Return the first picture of the worst gate that has one."""
    shown = next((verdict for verdict in failed if verdict.gate.id in outcome.examples), None)
    if shown is None:
        return ""
    name = escape(shown.gate.id)
    return (
        f'<h2 id="report-example">An example</h2>{outcome.examples[shown.gate.id]}'
        f'<p class="soft">From “{escape(family(shown.gate.family))}”: {escape(case(shown))}. '
        f'<a href="#pictures-{name}">More of these</a></p>'
    )


def _closest(outcome: Outcome) -> list[str]:
    def slack(verdict: Verdict) -> float:
        known = verdict.gate.healthy
        assert verdict.value is not None
        assert verdict.limit is not None
        spread = (known.std if known else None) or max(abs(verdict.limit) * 0.01, 1e-9)
        return abs(verdict.value - verdict.limit) / spread

    judged = [
        verdict
        for verdict in outcome.verdicts
        if verdict.status == "pass" and verdict.value is not None and verdict.limit is not None
    ]
    if not judged:
        return []
    closest: dict[str, Verdict] = {}
    for verdict in sorted(judged, key=slack):
        closest.setdefault(verdict.gate.family, verdict)
    rows = "".join(
        f"<tr><td>{escape(family(name))}</td>{_numbers(verdict)}</tr>"
        for name, verdict in list(closest.items())[:_CLOSEST]
    )
    head = _HEAD.format("case")
    return [
        '<h2 id="report-worse">What is closest to failing</h2>',
        f'<table class="cards">{head}{rows}</table>',
    ]


def comparison(outcome: Outcome) -> list[str]:
    """Return the candidate beside the baseline and the incumbent."""
    title = '<h2 id="report-comparison">Against the other models</h2>'
    if outcome.overview is None:
        return [title, f"<p>{escape(outcome.overview_missing)}</p>"] if outcome.overview_missing else []
    return [title, comparison_table(outcome.overview, _right_everywhere(outcome))]


def _right_everywhere(outcome: Outcome) -> Rate | None:
    """Return what the gate found of the candidate at all promised poses: the overview does not search again."""
    for verdict in outcome.verdicts:
        gate = verdict.gate
        asked = (verdict.metric, gate.keys.get("grid"), gate.role) == ("right_at_every_pose", "promised", "candidate")
        if asked and verdict.value is not None and verdict.interval is not None:
            return Rate(verdict.value, *verdict.interval, verdict.n)
    return None


def coverage(outcome: Outcome) -> list[str]:
    """Return what the run judged, by whose bounds, and how to do it again."""
    rows = [
        (role, f'<code>{escape(model["path"])}</code> <span class="soft">{escape(model["sha256"][:12])}</span>')
        for role, model in outcome.models.items()
    ]
    data = outcome.data
    rows.append(("data", escape(f"{data['name']}, {data['split']} split, {data['n']} images")))
    rows.append(("reproduce", f"<code>{escape(outcome.command)}</code>"))
    rows.append(("versions", escape(", ".join(f"{name} {release}" for name, release in outcome.versions.items()))))
    rows.append(("bounds", escape(outcome.provenance)))
    rows += [("", escape(note)) for note in notes(outcome)[1:]]
    body = "".join(f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in rows)
    return [
        '<h2 id="report-covered">What was judged, and how to do it again</h2>',
        f'<div class="scroll"><table>{body}</table></div>',
    ]
