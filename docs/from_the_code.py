"""Tables of pages, made from the code and the checks file when the pages are built.

`{gate-rows} rotation` is a table of a family's rows, and `{corruptions}` one of all corruptions.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective

from harness.checks import read_checks
from harness.perturb.corruptions import CORRUPTIONS

if TYPE_CHECKING:
    from sphinx.application import Sphinx

    from harness.checks import Check

CHECKS = Path(__file__).parents[1] / "stress_tests/checks.toml"


class CheckRows(SphinxDirective):
    """A table of the rows of a family, of one or more metrics if asked for, folded."""

    required_arguments = 1
    option_spec: ClassVar = {"metrics": directives.unchanged}

    def run(self) -> list[nodes.Node]:
        """Return the table between the tags that fold it."""
        self.env.note_dependency(CHECKS)
        metrics = self.options.get("metrics", "").split()
        rows = [row for row in read_checks(CHECKS).family(self.arguments[0]) if not metrics or row.metric in metrics]
        if not rows:
            raise self.error(f"{CHECKS.name} has no rows of family {self.arguments[0]!r} with metrics {metrics}")
        gated = sum(row.binding is not None for row in rows)
        fold = f"<details><summary>Rows: {len(rows)}, with a threshold: {gated}</summary>"
        cells = [("row", "metric", "reference models", "threshold"), *map(_cells, rows)]
        return [nodes.raw("", fold, format="html"), _table(cells), nodes.raw("", "</details>", format="html")]


def _cells(row: Check) -> tuple[str, str, str, str]:
    reference, threshold = row.reference, row.binding
    spread = f"{reference.mean:g} ± {reference.std:g}" if reference and reference.mean is not None else "–"
    sign = "≥" if row.direction == "at_least" else "≤"
    by = " (by hand)" if row.hand else ""
    return row.id, row.metric, spread, f"{sign} {threshold.threshold:g}{by}" if threshold else "informational"


class Corruptions(SphinxDirective):
    """A table of the corruptions: what each does, by its docstring, and its level at severities 1 to 5."""

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        return [_table([("corruption", "what it does", "level at severities 1 to 5"), *map(_described, CORRUPTIONS)])]


def _described(name: str) -> tuple[str, str, str]:
    kind = CORRUPTIONS[name]
    return name, inspect.getdoc(kind.apply).split("\n\n")[0].replace("\n", " "), ", ".join(map(str, kind.levels))


def _table(rows: list[tuple[str, ...]]) -> nodes.table:
    head, body = nodes.thead(), nodes.tbody()
    for number, cells in enumerate(rows):
        entries = [nodes.entry("", nodes.paragraph(text=cell)) for cell in cells]
        (body if number else head).append(nodes.row("", *entries))
    columns = [nodes.colspec(colwidth=1) for _ in rows[0]]
    return nodes.table("", nodes.tgroup("", *columns, head, body, cols=len(columns)))


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directives."""
    app.add_directive("gate-rows", CheckRows)
    app.add_directive("corruptions", Corruptions)
    return {"parallel_read_safe": True}
