"""The pages: the report of a run, the details of each of its tests, and a comparison of two models on its own."""

from __future__ import annotations

import re
from html import escape
from typing import TYPE_CHECKING, Any

from harness.report.failures import failures_section
from harness.report.illustrations import figures_html
from harness.report.scorecard import comparison, coverage, said_first, verdict_banner, what_got_worse
from harness.report.style import SCRIPT, STYLE
from harness.report.tables import changes, classes_table, comparison_table, gates_tables, regressions, self_checks
from harness.report.wording import hints
from harness.run.outcome import Outcome, worst_first

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.gates import Verdict
    from harness.run.overview import Overview


def scorecard(outcome: Outcome) -> str:
    """Return the report of a run up to the list of its tests, which pytest-html adds."""
    parts = [*what_got_worse(outcome), *comparison(outcome)]
    if outcome.overview is not None:
        parts += failures_section(outcome.overview)
    parts += [*coverage(outcome), *self_checks(outcome)]
    if outcome.overview is not None:
        parts += _figures(outcome.overview)
    parts += regressions(outcome)
    parts.append('<h2 id="report-gates">All gates</h2>')
    parts.append(gates_tables(worst_first(outcome.verdicts)))
    parts.append('<h2 id="report-tests">Every test, with its pictures</h2>')
    body = "".join([verdict_banner(outcome), _contents(parts), *said_first(outcome), *parts])
    return f'{STYLE}<section class="stress">{body}</section>{SCRIPT}'


def page(outcome: Outcome) -> str:
    """Return the report of a run that had no tests as a page of its own."""
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Model quality gate</title></head>'
        f"<body><h1>Model quality gate</h1>{scorecard(outcome)}</body></html>"
    )


def details(verdict: Verdict, panels: list[str]) -> str:
    """Return the explanation of one test with its panels, given as HTML; links name it by `pictures-` and its id."""
    name = escape(verdict.gate.id)
    return f'<div class="stress" id="pictures-{name}"><p>{escape(verdict.explain())}</p>{"".join(panels)}</div>'


def comparison_page(overview: Overview, flips: Mapping[str, Any], facts: Mapping[str, str]) -> str:
    """Return a page that holds one model against another; `flips` as in `Flips.as_json`, from the second to the first.

    `facts` says what was compared and how, by title.
    """
    first, second = (model.name for model in overview.models[:2])
    found = [f"<li><b>{escape(what)}</b>: {escape(figures)}</li>" for what, figures in hints(overview)]
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in facts.items())
    title = f"{first} against {second}"
    parts = [
        f'<ul class="hints">{"".join(found)}</ul>' if found else "",
        '<h2 id="report-comparison">In short</h2>',
        comparison_table(overview),
        *failures_section(overview),
        *_figures(overview),
        f'<h2 id="report-changes">Which images changed from {escape(second)} to {escape(first)}</h2>',
        *changes("images as they are", flips),
        '<h2 id="report-covered">What was compared</h2>',
        f'<div class="scroll"><table>{rows}</table></div>',
    ]
    body = "".join([_contents(parts), *parts])
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(title)}</title>{STYLE}</head><body>"
        f'<h1>{escape(title)}</h1><section class="stress">{body}</section>{SCRIPT}</body></html>'
    )


def _figures(overview: Overview) -> list[str]:
    return [
        '<h2 id="report-figures">Figures</h2>',
        *figures_html(overview),
        f"<details><summary>Accuracy of each class, as a table</summary>{classes_table(overview)}</details>",
    ]


def _contents(parts: list[str]) -> str:
    """Return links to the headings."""
    headings = re.findall(r'<h2 id="(report-[a-z-]+)">(.*?)</h2>', "".join(parts))
    links = " ".join(f'<a href="#{name}">{title}</a>' for name, title in headings)
    return f'<nav aria-label="contents">{links}</nav>'
