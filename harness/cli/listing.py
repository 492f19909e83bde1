"""The command `list`: the checks of a gate, the settings, and the metrics, corruptions, sources and predictors."""

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
    help="Print WHAT there is: the checks of the checks file, or all settings, metrics, corruptions, sources of data "
    "or predictors, those of installed packages included.",
)
@click.argument(
    "what",
    metavar="WHAT",
    type=click.Choice(["checks", "settings", "metrics", "corruptions", "sources", "predictors"]),
)
@checks_option
def list_command(what: str, checks_path: Path) -> int:
    """Print what there is."""
    from harness.report.page import aligned
    from harness.run.project import table_of

    rows = table_of(what, checks_path)
    print("\n".join(printable(line) for line in aligned(rows, text=tuple(range(len(rows[0]))))))
    return OK
