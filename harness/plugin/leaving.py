"""What a run leaves beside its reports: a line in the history, and a run of MLflow; neither bears upon the verdict."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import replace
from typing import TYPE_CHECKING

from harness.errors import InputError, foreign_code, printable
from harness.run.history import NAME, History, append_run, line_of, read_history

if TYPE_CHECKING:
    from pathlib import Path

    from harness.plugin.run import GateRun
    from harness.run.opening import StressOptions
    from harness.run.outcome import Outcome

HISTORY_OPTION = "--stress-history"
_ON_CI = ("CI", "BUILD_NUMBER", "TF_BUILD")
"""Variables of the environment of which continuous integration sets one; pytest goes by the first two."""


def history_file(given: str | None, root: Path, reports: str) -> Path | None:
    """Return the file in which runs leave lines; by default one that nobody keeps, where a person may look at it."""
    if given is not None:
        return None if given == "none" else root / given
    on_ci = any(os.environ.get(name, "") not in {"", "0", "false"} for name in _ON_CI)
    return None if on_ci else root / reports / NAME


def expect_to_leave(options: StressOptions, *, asked: bool) -> None:
    """Raise `InputError` for MLflow where it is not installed, and for a file that was `asked` for and takes no line.

    Which is better known before a run than after.
    """
    path = options.history
    if asked and path is not None and path.exists():
        read_history(path)
        if not os.access(path, os.W_OK):
            raise InputError(f"{HISTORY_OPTION} {path}: cannot be written; name another file, or none")
    if options.mlflow is not None and importlib.util.find_spec("mlflow") is None:
        raise InputError(
            f"--stress-mlflow {options.mlflow}: MLflow is not installed; pip install 'stress-harness[mlflow]', or "
            "leave the option out"
        )


def with_history(outcome: Outcome, options: StressOptions) -> Outcome:
    """Return the outcome with the runs before it, and with what of their file cannot be read among its remarks."""
    if options.history is None or options.record is not None:
        return outcome
    try:
        before = read_history(options.history)
    except InputError as error:  # It could be, when the run began.
        before = History((), (str(error),))
    remarks = (*outcome.remarks, *(f"history: {line}" for line in before.damaged))
    return replace(outcome, history=before.and_now(line_of(outcome)), remarks=remarks)


def leave(run: GateRun) -> None:
    """Add the run's line to the history and log it to MLflow, now that all its reports are written.

    What cannot be left is told on the terminal; the verdict stands.
    """
    outcome, options = run.outcome, run.options
    if outcome is None or options.record is not None:
        return
    if options.history is not None and outcome.history is not None:
        try:
            append_run(options.history, outcome.history.lines[-1])
        except OSError as error:
            _tell(run, f"history: this run left no line in {options.history} ({error.strerror or error})")
    if options.mlflow is not None:
        from harness.report.mlflow_run import log_run

        try:
            with foreign_code():
                log_run(outcome, options.reports, experiment=options.mlflow)
        except Exception as error:  # Its server may be away, and its code is not ours.
            _tell(run, f"MLflow: this run was not logged ({error})")


def _tell(run: GateRun, line: str) -> None:
    if (reporter := run.config.pluginmanager.getplugin("terminalreporter")) is not None:
        reporter.write_line(printable(line), red=True)
