"""The command that runs the gate and is there when it ends without a verdict: gate."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from harness.run.outcome import NOT_JUDGED, REPORTS_FILE, STATUS_FILE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_INTERRUPTED = 2


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
    """Run pytest with these arguments in a child process and return its exit status, 4 if it came to no verdict.

    One that ends without reports, such as by a crash, or before the plugin that writes them is loaded, is told of in
    reports all the same; those of an earlier run are removed. Ctrl-C, which a terminal sends to that process too, is
    its to handle, however long it takes to write its reports: the status is 2 then.
    """
    from harness.plugin.output import forget, write_refusal
    from harness.run.outcome import REPORTS
    from harness.run.reported import refusal_of
    from harness.run.request import joined

    reports = _reports_named(arguments)
    forget(reports)
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder) / "status"
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", STATUS_FILE: str(said)}
        command = [sys.executable, "-m", "pytest", *joined(arguments)]
        with _interrupts_left_to_children():
            ended = subprocess.run(command, check=False, env=environment)  # noqa: S603  Our own command.
        status = _INTERRUPTED if ended.returncode == -signal.SIGINT else ended.returncode
        verdict = said.read_text("utf-8") if said.exists() else ""
        if (begun := said.with_name(REPORTS_FILE)).exists():
            reports = Path(begun.read_text("utf-8"))
    if verdict == str(status) or status == _INTERRUPTED:
        return status
    reason = (
        f"the gate ended with exit status {status} and without a verdict, as by a crash, or an exit of the model or a "
        "test; nothing was judged"
    )
    if not all((reports / name).exists() for name in REPORTS):
        write_refusal(refusal_of(None, [reason], command=["pytest", *arguments]), reports)
    if status != NOT_JUDGED:
        print(f"error: {reason}", file=sys.stderr)
    return NOT_JUDGED


@contextmanager
def _interrupts_left_to_children() -> Iterator[None]:
    """Go on at Ctrl-C; a child process is interrupted by it as ever, unless this one was not to be interrupted."""
    mine = threading.current_thread() is threading.main_thread()  # Others are not interrupted.
    if not mine or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, lambda *_: None)  # Unlike SIG_IGN, it is not inherited.
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _reports_named(arguments: Sequence[str]) -> Path:
    """Return the folder that the gate's reports go to where the working directory is the root, as is usual."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--stress-reports", nargs="?", default="reports")
    return Path.cwd() / (parser.parse_known_args(arguments)[0].stress_reports or "reports")
