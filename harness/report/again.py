"""The command that runs a single check of a run again, with reports of its own."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_REPORTS, _SELECTED = "--stress-reports", "-k"


def command_of_one(command: Sequence[str], row: str) -> str:
    """Return the command of a run for the gate of one row alone, as a line of a shell.

    Its reports go into a folder of the row's name in that of the run. What the run selected by `-k`, and where it
    reported to, is not said twice.
    """
    kept: list[str] = []
    reports, awaited = "reports", ""
    for argument in command:
        name, _, value = argument.partition("=")
        if awaited == _REPORTS:
            reports, awaited = argument, ""
        elif awaited:
            awaited = ""
        elif argument in {_REPORTS, _SELECTED}:
            awaited = argument
        elif name == _REPORTS:
            reports = value
        elif not argument.startswith(_SELECTED):
            kept.append(argument)
    return shlex.join([*kept, _SELECTED, f"[{row}]", _REPORTS, f"{reports.rstrip('/')}/{row}"])
