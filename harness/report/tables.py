"""Tables of a report: all gates, the models side by side, what changed since the incumbent, self-checks."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from harness.measures import Unit
from harness.perturb import IDENTITY
from harness.report.text import number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.gates import Verdict
    from harness.run.outcome import Outcome
    from harness.run.overview import ModelOverview, Overview, Rate

_MOST_CHANGED = 10
"""Classes and pairs that the comparison with the incumbent names."""

SIGNS = {
    "pass": "✓ holds",
    "fail": "✗ fails",
    "error": "✗ not judged",
    "not_gated": "reported",
    "not_applicable": "n/a",
}


_FOLDED = {
    "pass": "Gates that hold",
    "not_gated": "Measured and reported only, without a bound",
    "not_applicable": "Not applicable here",
}


def table(titles: Sequence[str], rows: Sequence[Sequence[object]], *, numbers: bool = False) -> str:
    """Return a table of plain cells; with `numbers`, all columns but the first are aligned as such."""
    kind = ' class="number"' if numbers else ""
    head = "".join(f"<th{kind if at else ''}>{escape(title)}</th>" for at, title in enumerate(titles))
    body = "".join(
        "<tr>" + "".join(f"<td{kind if at else ''}>{escape(str(cell))}</td>" for at, cell in enumerate(row)) + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'


def gates_tables(verdicts: Sequence[Verdict]) -> str:
    """Return a row for each gate, which links can name by the gate's id: failures open, all others folded by status."""
    groups: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        status: str = "fail" if verdict.status == "error" else verdict.status
        groups.setdefault(status, []).append(verdict)
    parts = []
    for status, among in groups.items():
        if status == "fail":
            parts.append(_gates_table(among))
        else:
            title = f"{_FOLDED[status]}: {len(among)}"
            parts.append(f"<details><summary>{title}</summary>{_gates_table(among)}</details>")
    return "".join(parts)


def _gates_table(verdicts: Sequence[Verdict]) -> str:
    titles = ("gate", "status", "measured", "bound", "healthy", "notices", "n", "detail", "")
    head = "".join(f"<th>{title}</th>" for title in titles)
    return f'<div class="scroll"><table><tr>{head}</tr>{"".join(map(_gate_row, verdicts))}</table></div>'


def _gate_row(verdict: Verdict) -> str:
    gate, known = verdict.gate, verdict.gate.healthy
    healthy = notices = ""
    if known and known.mean is not None and known.std is not None:
        healthy = f"{number(verdict, known.mean)} ± {known.std:.2g}"
    if known and known.detects is not None:
        notices = f"a loss of {number(verdict, known.detects)}"
    detail = "; ".join(filter(None, (verdict.detail, gate.not_gated if verdict.status == "not_gated" else "")))
    sign = "≥" if gate.direction == "at_least" else "≤"
    bound = f"{sign} {number(verdict, verdict.limit)}" if verdict.limit is not None else ""
    name = escape(gate.id)
    worse = ' class="worse"' if verdict.status in {"fail", "error"} else ""
    return (
        f'<tr id="{name}"><td>{name}</td><td{worse}>{SIGNS[verdict.status]}</td>'
        f'<td class="number">{number(verdict, verdict.value)}</td><td class="number">{bound}</td>'
        f'<td class="number">{healthy}</td><td class="number">{notices}</td>'
        f'<td class="number">{verdict.n or ""}</td><td>{escape(detail)}</td>'
        f'<td><a href="#pictures-{name}">details</a></td></tr>'
    )


def comparison_table(overview: Overview, everywhere: Rate | None = None) -> str:
    """Return the models side by side in what matters most; what is plainly worse than in the model compared is marked.

    `everywhere` is how many images of the first model are right at every promised pose, where its gate found out.
    """
    models, reference = overview.models, overview.reference
    head = "".join(f'<th class="number">{escape(" = ".join(model.roles))}</th>' for model in models)
    rows = []
    for title, explanation, rates in _compared(overview, everywhere):
        beside = rates[models.index(reference)] if reference else None
        cells = "".join(_rate_cell(rate, beside if not at else None) for at, rate in enumerate(rates))
        rows.append(f'<tr><td>{title}<br><span class="soft">{explanation}</span></td>{cells}</tr>')
    counts = [model.confident_errors for model in models]
    cells = "".join(
        f'<td class="number">{count:,}<br><span class="soft">of {overview.n:,}</span></td>' for count in counts
    )
    rows.append(f'<tr><td>Mistakes it is sure of<br><span class="soft">over 90% confidence</span></td>{cells}</tr>')
    if any(model.on_object_overall for model in models):
        cells = "".join(_attention_cell(model) for model in models)
        about = "share of Grad-CAM on the object; an even look has as much as the object fills"
        rows.append(f'<tr><td>Attention on the object<br><span class="soft">{about}</span></td>{cells}</tr>')
    columns = f'<table class="compare" style="--models: {len(models)}">'
    return f'<div class="scroll">{columns}<tr><th></th>{head}</tr>{"".join(rows)}</table></div>'


def _compared(overview: Overview, everywhere: Rate | None) -> list[tuple[str, str, list[Rate | None]]]:
    models = overview.models
    rows: list[tuple[str, str, list[Rate | None]]] = [
        ("Right on images as they are", "", [model.accuracy for model in models]),
        ("Right when turned and moved", "mean of the corners ±10°, ±2 px", [model.corners for model in models]),
    ]
    found = [model.right_everywhere or (None if at else everywhere) for at, model in enumerate(models)]
    if any(found):
        rows.append(("Right at every small pose", "all 225 poses within ±10°, ±2 px", found))
    return rows


def _rate_cell(rate: Rate | None, beside: Rate | None) -> str:
    if rate is None:
        return '<td class="number">–</td>'
    worse = beside is not None and rate.high < beside.low
    about = f"{100 * rate.low:.1f}–{100 * rate.high:.1f}, n={rate.n:,}"
    return (
        f'<td class="number"><span{" class=worse" if worse else ""}>{"▼ " if worse else ""}{100 * rate.value:.1f}%'
        f'</span><br><span class="soft">{about}</span></td>'
    )


def _attention_cell(model: ModelOverview) -> str:
    found = model.on_object_overall
    if found is None:
        return '<td class="number">–</td>'
    about = f"even look {found.uniform:.0%}, lift {found.lift:.2f}, n={found.n:,}"
    return f'<td class="number">{found.ratio:.0%}<br><span class="soft">{about}</span></td>'


def classes_table(overview: Overview) -> str:
    """Return each class's accuracy for each model, with what stands between the first and the model it is held to."""
    reference = overview.reference
    rows = []
    for at, name in enumerate(overview.classes):
        rates = [model.per_class[at] for model in overview.models]
        row = [name, *(Unit.SHARE.format(rate.value) if rate else "–" for rate in rates)]  # type: ignore[str-format]
        if reference:
            mine, theirs = rates[0], reference.per_class[at]
            row.append(Unit.DIFFERENCE.format(mine.value - theirs.value) if mine and theirs else "–")  # type: ignore[str-format]
        rows.append(row)
    change = [f"change since {reference.name}"] if reference else []
    return table(["class", *(model.name for model in overview.models), *change], rows, numbers=True)


def regressions(outcome: Outcome) -> list[str]:
    """Return what changed since the incumbent: by behaviour, and on images as they are by class, pair and image."""
    changed = [(verdict.gate, verdict.flips) for verdict in outcome.verdicts if verdict.flips]
    if not changed:
        return []
    rows = [
        (gate.id, len(flips["new_failures"]), len(flips["fixed_failures"]), *_change(flips)) for gate, flips in changed
    ]
    gate, clean = next(((gate, flips) for gate, flips in changed if gate.pose == IDENTITY), changed[0])
    titles = ("behaviour", "new failures", "fixed", "net change", "95% interval", "McNemar p")
    return [
        '<h2 id="report-incumbent">Against the incumbent</h2>',
        table(titles, rows, numbers=True),
        *changes(gate.id, clean),
    ]


def changes(name: str, flips: Mapping[str, Any]) -> list[str]:
    """Return which classes, pairs and images a comparison of two models is about; `flips` as in `Flips.as_json`."""
    parts = []
    for title in ("class", "pair"):
        counts = [(item, *pair) for item, pair in flips[f"by_{title}"].items()][:_MOST_CHANGED]
        if counts:
            parts.append(f"<p>{escape(name)}: the most changed {'classes' if title == 'class' else 'pairs'}</p>")
            parts.append(table((title, "new failures", "fixed"), counts, numbers=True))
    for title in ("new_failures", "fixed_failures"):
        numbers = ", ".join(map(str, flips[title])) or "none"
        parts.append(
            f"<details><summary>{escape(name)}: {len(flips[title])} {title.replace('_', ' ')}, by image number"
            f"</summary><p>{numbers}</p></details>"
        )
    return parts


def _change(flips: Mapping[str, Any]) -> tuple[str, str, str]:
    low, high = flips["interval"]
    return f"{flips['net']:+.4f}", f"{low:+.4f} to {high:+.4f}", f"{flips['mcnemar_p']:.2g}"


def self_checks(outcome: Outcome) -> list[str]:
    """Return what the run found when it checked itself."""
    if not outcome.self_checks:
        return []
    rows = [(check.name, SIGNS[check.status], check.detail) for check in outcome.self_checks]
    return [
        '<h2 id="report-self-checks">Could this run have failed?</h2>',
        table(("self-check", "result", "what was found"), rows),
    ]
