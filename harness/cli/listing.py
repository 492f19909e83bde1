"""The command `list`: the checks of a gate, and the metrics, corruptions and sources that checks can name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from harness.base.errors import printable
from harness.cli.options import OK, Command, checks_option

if TYPE_CHECKING:
    from pathlib import Path


@click.command(
    "list",
    cls=Command,
    example="list checks",
    help="Print the checks of the checks file, or the metrics, corruptions or sources of data that there are, those of "
    "installed packages included.",
)
@click.argument("what", type=click.Choice(["checks", "metrics", "corruptions", "sources"]))
@checks_option
def list_command(what: str, checks_path: Path) -> int:
    """Print what there is."""
    from harness.report.text import aligned

    tables = {"checks": lambda: _checks(checks_path), "metrics": _metrics, "corruptions": _corruptions}
    rows = tables.get(what, _sources)()
    print("\n".join(printable(line) for line in aligned(rows, text=tuple(range(len(rows[0]))))))
    return OK


def _checks(path: Path) -> list[tuple[str, ...]]:
    from harness.checks import read_checks

    titles = ("check", "family", "metric", "direction", "threshold", "provenance")
    rows: list[tuple[str, ...]] = []
    for check in read_checks(path).checks:
        threshold, of = "informational", ""
        if check.binding:
            threshold, of = f"{check.binding.threshold:g}", "hand" if check.hand else "panel"
        rows.append((check.id, check.family, check.metric, check.direction or "", threshold, of))
    return [titles, *rows]


def _metrics() -> list[tuple[str, ...]]:
    from harness.measures import METRICS

    rows = [(name, each.unit.value, each.better, each.words) for name, each in METRICS.items()]
    return [("metric", "unit", "better", "meaning"), *rows]


def _corruptions() -> list[tuple[str, ...]]:
    from harness.perturb.corruptions import CORRUPTIONS

    return [("corruption",), *((name,) for name in CORRUPTIONS)]


def _sources() -> list[tuple[str, ...]]:
    from harness.data.sources import SOURCES

    rows = [(f"{name}:{each.takes}" if each.takes else name, each.about) for name, each in SOURCES.items()]
    return [("source", "meaning"), *rows]
