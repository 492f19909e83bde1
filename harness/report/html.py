"""The parts of the HTML report: the scorecard on top, and the details of each test."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from harness.outcome import Outcome, worst_first
from harness.report.text import number

if TYPE_CHECKING:
    from harness.gates import Verdict

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
    notes = [*outcome.errors, *outcome.omissions, *(f"{failure}: failed" for failure in outcome.failures)]
    parts += [f"<p>{escape(note)}</p>" for note in notes]
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
    rows.append(("bounds", escape(str(outcome.recipe.get("about", "of unknown recipe"))), ""))
    body = "".join(f"<tr><th>{name}</th><td>{value}</td><td>{extra}</td></tr>" for name, value, extra in rows)
    parts.append(f'<div class="scroll"><table>{body}</table></div>')
    parts.append("<h2>All gates</h2>")
    parts.append(_table(worst_first(outcome.verdicts), anchors=True))
    parts.append("</section>")
    return "".join(parts)


def _table(verdicts: list[Verdict], *, anchors: bool) -> str:
    head = "".join(f"<th>{title}</th>" for title in ("gate", "status", "measured", "bound", "healthy", "n", "detail"))
    return (
        f'<div class="scroll"><table><tr>{head}</tr>{"".join(_row(v, anchors=anchors) for v in verdicts)}</table></div>'
    )


def _row(verdict: Verdict, *, anchors: bool) -> str:
    gate, threshold = verdict.gate, verdict.gate.threshold
    healthy = ""
    if threshold and threshold.mean is not None and threshold.std is not None:
        healthy = f"{number(verdict, threshold.mean)} ± {threshold.std:.2g}"
    sign = "≥" if gate.direction == "at_least" else "≤"
    bound = f"{sign} {number(verdict, verdict.limit)}" if verdict.limit is not None else ""
    anchor = f' id="{escape(gate.id)}"' if anchors else ""
    label = escape(gate.id) if anchors else f'<a href="#{escape(gate.id)}">{escape(gate.id)}</a>'
    return (
        f"<tr{anchor}><td>{label}</td><td>{_SIGN[verdict.status]}</td>"
        f'<td class="number">{number(verdict, verdict.value)}</td><td class="number">{bound}</td>'
        f'<td class="number">{healthy}</td><td class="number">{verdict.n or ""}</td>'
        f"<td>{escape(verdict.detail)}</td></tr>"
    )


def details(verdict: Verdict, panels: list[str]) -> str:
    """Return the explanation of one test with its panels, given as HTML."""
    return f'<div class="stress"><p>{escape(verdict.explain())}</p>{"".join(panels)}</div>'
