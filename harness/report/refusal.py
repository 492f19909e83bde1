"""Reports of a run without a verdict; made by the standard library alone, since any package may be what failed."""

from __future__ import annotations

import json
import shlex
from contextlib import suppress
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from harness.base.codes import code_in
from harness.base.errors import printable, writable
from harness.base.markdown import code, plain
from harness.run.status import INCONCLUSIVE, PAGE, REPORT, SCHEMA, SUMMARY, versions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PROTOCOL = 1
"""As in `harness.perturb`, which needs packages."""
ROLES = ("candidate", "baseline", "incumbent", "original")
"""Roles that have an entry in every `stress.json`."""
TITLE = "Model quality gate"
"""The title of a report, behind its verdict and candidate."""
_STYLE = Path(__file__).parent / "templates/report.css"
_SHOWN = 10
"""Reasons that the summary shows."""


def mark_of_summary(run: str, verdict: str) -> str:
    """Return the line of `stress.md` that names the run and its verdict."""
    return f"- run: `{run}`, verdict `{verdict}`"


def mark_of_page(run: str, verdict: str) -> str:
    """Return the attributes of an element of `stress.html` that name the run and its verdict."""
    return f'data-run="{run}" data-verdict="{verdict}"'


@dataclass(frozen=True)
class Refusal:
    """A run without a verdict: why, how it was started, and what it was asked to judge.

    `run` is its id, `models` has paths by role, `data` and `profile` are as given. Unknown values are empty.
    """

    reasons: Sequence[str]
    command: Sequence[str]
    run: str = ""
    profile: str = ""
    models: Mapping[str, str] = field(default_factory=dict)
    data: str = ""

    @property
    def line(self) -> str:
        """Return the command as a line of a shell."""
        return shlex.join(map(str, self.command))

    def contents(self) -> dict[str, bytes]:
        """Return the content of all three reports by their names, the record first."""
        made = {REPORT: _record(self), SUMMARY: _summary(self), PAGE: _page(self)}
        return {name: writable(content).encode() for name, content in made.items()}


def _record(refusal: Refusal) -> str:
    models = {role: {"path": path, "sha256": "", "architecture": ""} for role, path in refusal.models.items()}
    plain_record = {
        "schema": SCHEMA,
        "protocol": PROTOCOL,
        "run": refusal.run,
        "profile": refusal.profile,
        "scope": "",
        "verdict": "error",
        "headline": INCONCLUSIVE,
        "provisional": False,
        **{role: models.get(role) for role in (*ROLES, *models)},
        "data": {"name": refusal.data, "split": "", "sha256": "", "n": 0, "classes": []},
        "recipe": {},
        "provenance": "of unknown origin",
        "checks_sha256": "",
        "versions": versions(),
        "errors": list(refusal.reasons),
        "error_codes": [code_in(reason) for reason in refusal.reasons],
        "omissions": [],
        "notices": [],
        "failed_tests": [],
        "known": [],
        "self_checks": [],
        "checks": [],
        "overview": None,
        "input_faults": None,
    }
    return json.dumps(plain_record, indent=1) + "\n"


def _summary(refusal: Refusal) -> str:
    more = len(refusal.reasons) - _SHOWN
    reasons = [f"- **inconclusive**: {plain(reason)}" for reason in refusal.reasons[:_SHOWN]]
    reasons += [f"- **inconclusive**: {more} more, listed in {PAGE}"] if more > 0 else []
    judged = [f"- {plain(role)}: {code(path)}" for role, path in refusal.models.items()]
    judged += [f"- data: {plain(refusal.data)}"] if refusal.data else []
    judged.append(mark_of_summary(refusal.run, "error"))
    blocks = [[f"## ❌ {TITLE}: {INCONCLUSIVE}"], reasons, ["What was judged:", "", *judged]]
    return "\n\n".join("\n".join(block) for block in [*blocks, [f"Reproduce: {code(refusal.line)}"]]) + "\n"


def _page(refusal: Refusal) -> str:
    facts = {**refusal.models, "data": refusal.data, "reproduce": refusal.line}
    facts["versions"] = ", ".join(f"{name} {release}" for name, release in versions().items())
    sentence = "No verdict: this run is inconclusive."
    return bare_page(
        run=refusal.run, verdict="error", sentence=sentence, headline=INCONCLUSIVE, said=refusal.reasons, facts=facts
    )


def bare_page(
    *, run: str, verdict: str, sentence: str, headline: str, said: Sequence[str], facts: Mapping[str, str]
) -> str:
    """Return a page with a verdict, a paragraph for each line that is `said` of it, and a table of `facts`."""
    style = ""
    with suppress(OSError):
        style = _STYLE.read_text("utf-8")
    rows = "".join(
        f'<tr><th scope="row">{_text(name)}</th><td>{_text(value)}</td></tr>' for name, value in facts.items()
    )
    paragraphs = "".join(f"<p>{_text(line)}</p>" for line in said)
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{TITLE}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<style>{style}</style></head><body><header><h1>{TITLE}</h1></header><main class="stress">'
        f'<div class="headline {verdict}" {mark_of_page(run, verdict)}>'
        f"<strong>{_text(sentence)}</strong>"
        f'<span>{_text(headline)}</span></div>{paragraphs}<section class="section">'
        f'<h2>What was judged, and how to do it again</h2><div class="scroll"><table>{rows}</table></div>'
        "</section></main></body></html>\n"
    )


def _text(text: str) -> str:
    return escape(printable(text))
