"""The parts of the HTML report: the scorecard on top, and the details of each test."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from harness.outcome import Outcome, worst_first
from harness.perturb import IDENTITY
from harness.report.text import notes, number, self_check_failures

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.gates import Verdict

_MOST_CHANGED = 10
"""Classes and pairs that the comparison with the incumbent names."""

_STYLE = """
<style>
 /* What pytest-html knows of the environment is of use to nobody before the verdict. */
 #environment-header, #environment { display: none; }
 .stress { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; color: #1a1a1a; }
 .stress h2 { margin: 1.2em 0 .4em; }
 .stress .headline { font-size: 1.4rem; font-weight: 600; padding: .6em .8em; border-left: .5rem solid; }
 .stress .pass { border-color: #0072b2; background: #e8f3fa; }
 .stress .partial { border-color: #e69f00; background: #fdf4e0; }
 .stress .fail, .stress .error { border-color: #d55e00; background: #fbeae0; }
 .stress table { border-collapse: collapse; margin: .5em 0; }
 .stress th, .stress td { text-align: left; vertical-align: top; padding: .2em .8em .2em 0; }
 .stress tr { border-bottom: 1px solid #ccc; }
 .stress td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
 .stress code { overflow-wrap: anywhere; }
 .stress .scroll { overflow-x: auto; }
 .stress img { max-width: 100%; display: block; margin: .4em 0; }
</style>
"""

_SIGN = {
    "pass": "✓ holds",
    "fail": "✗ fails",
    "error": "✗ not judged",
    "not_gated": "reported",
    "not_applicable": "n/a",
}


def scorecard(outcome: Outcome) -> str:
    """Return the top of the report: verdict, what got worse, what the run covered, how to reproduce it, all gates."""
    failed = [verdict for verdict in worst_first(outcome.verdicts) if verdict.status in {"fail", "error"}]
    parts = [_STYLE, '<section class="stress">']
    parts.append(f'<p class="headline {outcome.verdict}">{escape(outcome.headline)}</p>')
    said = [*outcome.errors, *self_check_failures(outcome), *outcome.omissions]
    said += [*(f"{failure}: failed" for failure in outcome.failures), *notes(outcome)]
    parts += [f"<p>{escape(note)}</p>" for note in said]
    if failed:
        parts.append("<h2>What got worse</h2>")
        parts.append(_table(failed, anchors=False))
    parts.append("<h2>What was judged</h2>")
    rows = [
        (role, f"<code>{escape(model['path'])}</code>", f"<code>{escape(model['sha256'][:12])}</code>")
        for role, model in outcome.models.items()
    ]
    data = outcome.data
    rows.append(("data", escape(f"{data['name']}, {data['split']} split, {data['n']} images"), ""))
    rows.append(("reproduce", f"<code>{escape(outcome.command)}</code>", ""))
    rows.append(("versions", escape(", ".join(f"{name} {release}" for name, release in outcome.versions.items())), ""))
    rows.append(("bounds", escape(outcome.provenance), ""))
    body = "".join(f"<tr><th>{name}</th><td>{value}</td><td>{extra}</td></tr>" for name, value, extra in rows)
    parts.append(f'<div class="scroll"><table>{body}</table></div>')
    parts += [*_regressions(outcome), *_self_checks(outcome)]
    parts.append("<h2>All gates</h2>")
    parts.append(_table(worst_first(outcome.verdicts), anchors=True))
    parts.append("</section>")
    return "".join(parts)


def _regressions(outcome: Outcome) -> list[str]:
    """Return what changed since the incumbent: by behaviour, and on images as they are by class, pair and image."""
    changed = [(verdict.gate, verdict.flips) for verdict in outcome.verdicts if verdict.flips]
    if not changed:
        return []
    rows = [
        (gate.id, len(flips["new_failures"]), len(flips["fixed_failures"]), *_change(flips)) for gate, flips in changed
    ]
    parts = ["<h2>Against the incumbent</h2>"]
    parts.append(_plain_table(("behaviour", "new failures", "fixed", "net change", "95% interval", "McNemar p"), rows))
    gate, clean = next(((gate, flips) for gate, flips in changed if gate.pose == IDENTITY), changed[0])
    for title in ("class", "pair"):
        counts = [(name, *pair) for name, pair in clean[f"by_{title}"].items()][:_MOST_CHANGED]
        if counts:
            parts.append(f"<p>{escape(gate.id)}: the most changed {'classes' if title == 'class' else 'pairs'}</p>")
            parts.append(_plain_table((title, "new failures", "fixed"), counts))
    for title in ("new_failures", "fixed_failures"):
        numbers = ", ".join(map(str, clean[title])) or "none"
        parts.append(
            f"<details><summary>{escape(gate.id)}: {len(clean[title])} {title.replace('_', ' ')}, by image number"
            f"</summary><p>{numbers}</p></details>"
        )
    return parts


def _change(flips: Mapping[str, Any]) -> tuple[str, str, str]:
    low, high = flips["interval"]
    return f"{flips['net']:+.4f}", f"{low:+.4f} to {high:+.4f}", f"{flips['mcnemar_p']:.2g}"


def _self_checks(outcome: Outcome) -> list[str]:
    if not outcome.self_checks:
        return []
    rows = [(check.name, _SIGN[check.status], check.detail) for check in outcome.self_checks]
    return ["<h2>Could this run have failed?</h2>", _plain_table(("self-check", "result", "what was found"), rows)]


def _plain_table(titles: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    body = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'


def _table(verdicts: list[Verdict], *, anchors: bool) -> str:
    titles = ("gate", "status", "measured", "bound", "healthy", "notices", "n", "detail")
    head = "".join(f"<th>{title}</th>" for title in titles)
    return (
        f'<div class="scroll"><table><tr>{head}</tr>{"".join(_row(v, anchors=anchors) for v in verdicts)}</table></div>'
    )


def _row(verdict: Verdict, *, anchors: bool) -> str:
    gate, known = verdict.gate, verdict.gate.healthy
    healthy = notices = ""
    if known and known.mean is not None and known.std is not None:
        healthy = f"{number(verdict, known.mean)} ± {known.std:.2g}"
    if known and known.detects is not None:
        notices = f"a loss of {number(verdict, known.detects)}"
    detail = "; ".join(filter(None, (verdict.detail, gate.not_gated if verdict.status == "not_gated" else "")))
    sign = "≥" if gate.direction == "at_least" else "≤"
    bound = f"{sign} {number(verdict, verdict.limit)}" if verdict.limit is not None else ""
    anchor = f' id="{escape(gate.id)}"' if anchors else ""
    label = escape(gate.id) if anchors else f'<a href="#{escape(gate.id)}">{escape(gate.id)}</a>'
    return (
        f"<tr{anchor}><td>{label}</td><td>{_SIGN[verdict.status]}</td>"
        f'<td class="number">{number(verdict, verdict.value)}</td><td class="number">{bound}</td>'
        f'<td class="number">{healthy}</td><td class="number">{notices}</td>'
        f'<td class="number">{verdict.n or ""}</td><td>{escape(detail)}</td></tr>'
    )


def details(verdict: Verdict, panels: list[str]) -> str:
    """Return the explanation of one test with its panels, given as HTML."""
    return f'<div class="stress"><p>{escape(verdict.explain())}</p>{"".join(panels)}</div>'
