"""The command `history`: the last runs of the gate."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from harness.base.codes import Code
from harness.base.errors import InputError
from harness.cli import options

HISTORY = Path("reports/history.jsonl")


@click.command(
    "history",
    cls=options.CommandWithExample,
    example="history reports/history.jsonl",
    help="Print the last runs of the gate, and the first run of each failure. A page of their own "
    "draws clean accuracy, worst pose, failing checks and the smallest margin of each behavior.",
)
@click.argument("file", type=options.FILE, default=HISTORY)
@click.option(
    "--last", type=int, default=50, metavar="N", help="Number of candidates to show (default: 50)."
)
@options.page_option("reports/history.html")
@options.json_option
def history_command(file: Path, last: int, output: Path, *, as_json: bool) -> int:
    """Print and draw a history."""
    from harness.base.outputs import PAGE, Inputs
    from harness.base.records import as_plain
    from harness.report.history import history_lines, history_page
    from harness.run.history import read_history

    if last < 1:
        raise InputError(f"--last {last}: expected a number of candidates, at least 1")
    if not file.exists():
        raise InputError(
            f"{file}: there is no such file. Runs of the gate write to the file of the setting "
            "history, by default reports/history.jsonl. In CI, they need the setting.",
            code=Code.HISTORY,
        )
    page = options.own_output(output, PAGE, Inputs((file,)))
    known = read_history(file)
    for line in known.damaged:
        options.tell(f"warning: {line}", to=sys.stderr)
    if not known.lines:
        raise InputError(f"{file}: no run of the gate is in it", code=Code.HISTORY)
    page.write(history_page(known, source=str(file), last=last).encode())
    plain = {
        "runs": [as_plain(line) for line in known.lines],
        "damaged": known.damaged,
        "page": str(output),
    }
    options.say(plain, [*history_lines(known, last=last), f"page: {output}"], as_json=as_json)
    return options.OK
