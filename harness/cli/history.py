"""The command that prints and draws the runs of a history: history."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from harness.base.errors import InputError, printable
from harness.cli.status import OK
from harness.run.history import LAST
from harness.run.settings import HISTORY_FILE

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable


def add_commands(add: Callable[[str, object, str, str], argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
    command = add(
        "history",
        _history,
        "Print the last runs of the gate, and since when checks have failed, and draw them on a page of its own: clean "
        "accuracy, worst pose, failing checks and how far each behaviour is from its threshold.",
        f"history reports/{HISTORY_FILE}",
    )
    command.add_argument(
        "file",
        nargs="?",
        type=Path,
        default=Path("reports", HISTORY_FILE),
        metavar="FILE",
        help=f"the file of --stress-history (default: reports/{HISTORY_FILE})",
    )
    command.add_argument(
        "--last", type=int, default=LAST, metavar="N", help=f"how many candidates to show (default: {LAST})"
    )
    command.add_argument(
        "--output",
        type=Path,
        default=Path("reports/history.html"),
        metavar="HTML",
        help="the page (default: reports/history.html)",
    )
    command.add_argument("--json", action="store_true", help="print the runs as JSON, the oldest first")


def _history(options: argparse.Namespace) -> int:
    from harness.base import write_atomically
    from harness.base.records import as_plain
    from harness.report.history import history_lines, history_page
    from harness.run.history import read_history

    if options.last < 1:
        raise InputError(f"--last {options.last}: expected a number of candidates, at least 1")
    if not options.file.exists():
        raise InputError(
            f"{options.file}: there is no such file; runs of the gate leave their line where --stress-history says, by "
            f"default in reports/{HISTORY_FILE}, and in CI only if it is given"
        )
    known = read_history(options.file)
    for line in known.damaged:
        print(f"warning: {printable(line)}", file=sys.stderr)
    if not known.lines:
        raise InputError(f"{options.file}: no run of the gate is in it")
    write_atomically(options.output, history_page(known, source=str(options.file), last=options.last).encode())
    if options.json:
        runs = [as_plain(line) for line in known.lines]
        print(json.dumps({"runs": runs, "damaged": known.damaged, "page": str(options.output)}))
        return OK
    print("\n".join(map(printable, history_lines(known, last=options.last))))
    print(f"page: {options.output}")
    return OK
