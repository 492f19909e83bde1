"""The command that runs the gate and is there when it ends without a verdict: gate."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from harness.api import judged
from harness.run.execute import without_verdict
from harness.run.outcome import NOT_JUDGED
from harness.run.request import RunRequest

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence


def add_commands(add: Callable[[str, object, str, str], argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
    command = add(
        "gate",
        _gate,
        "Run the stress tests in a process of their own, by pytest, to which all options are passed on; ends with "
        "pytest's exit status (0 every check holds, 1 some check fails, 4 nothing was judged), and with 4 when that "
        "process ends without a verdict, such as by a crash of the model.",
        "gate stress_tests --candidate runs/new.safetensors -n 2",
    )
    command.set_defaults(passes_on=True)


def _gate(options: argparse.Namespace) -> int:
    return run_gate(options.options or ("stress_tests",))


def run_gate(arguments: Sequence[str]) -> int:
    """Run pytest with these arguments in a child process and return its exit status, 4 if it came to no verdict."""
    result = judged(RunRequest(options=tuple(arguments), root=Path.cwd()), shown=True)
    if not result.concluded and result.status != NOT_JUDGED:
        print(f"error: {without_verdict(result.status)}", file=sys.stderr)
    return result.exit_status
