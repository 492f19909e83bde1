"""Refusals of a run: why pytest ends without a verdict, for the reports and the outer process.

This module needs no package besides pytest, since any other may be what failed.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from harness.base.codes import Code, code_in, coded
from harness.base.errors import lacking, printable, without_secrets
from harness.plugin.invocation import handover_to
from harness.report.refusal import refusal
from harness.run.handover import RunRecord
from harness.run.status import INTERRUPTED, NOT_JUDGED

if TYPE_CHECKING:
    from pathlib import Path


BEGUN = pytest.StashKey[bool]()
"""True once a run has begun, so that its own end says why it has no verdict."""
RUN_STATE = pytest.StashKey[Any]()
"""The state of the run, `harness.plugin.run.GateRun`, for code that may have to do without it."""
RUN_ID = pytest.StashKey[str]()
"""The id of a run that this process judges without an outer one."""


def refusal_record(config: pytest.Config, *reasons: str, status: int = NOT_JUDGED) -> RunRecord:
    """Return the record of a run without a verdict, for these reasons."""
    run_id = run_id_of(config)
    report = refusal(reasons, command_of(config), run=run_id)
    return RunRecord(run_id, status, json.dumps(report))


def status_of(error: BaseException) -> int:
    """Return the exit status of a run that an exception ends."""
    return INTERRUPTED if isinstance(error, KeyboardInterrupt) else NOT_JUDGED


def reason_of(error: BaseException) -> str:
    """Return in one line, with its code, why pytest ends a run."""
    if isinstance(error.__cause__, ImportError):
        return coded(Code.PACKAGE, lacking(error))
    if code_in(str(error)):
        return str(error)

    message = str(error) if isinstance(error, Exception) else repr(error)
    lines = message.splitlines() or [repr(error)]
    # Of a wrong command line, argparse says the usage first.
    line = next((line for line in lines if ": error: " in line), lines[0])
    code = Code.USAGE if isinstance(error, pytest.UsageError) else Code.PYTEST
    return coded(code, printable(line))


def run_id_of(config: pytest.Config) -> str:
    """Return the id of this run."""
    handover = handover_to(config)
    if handover is None:
        return config.stash[RUN_ID]
    return str(handover.content["run_id"])


def command_of(config: pytest.Config) -> list[str]:
    """Return how a run was started, for everyone to read."""
    handover = handover_to(config)
    if handover is None:
        command = ["pytest", *config.invocation_params.args]
    else:
        command = handover.content["command"]
    return [without_secrets(str(argument)) for argument in command]


def typed_reports_folder(config: pytest.Config) -> Path:
    """Return the folder that reports go to, from a command line that pytest could not parse."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--stress-reports", default="reports")
    folder = "reports"
    with suppress(argparse.ArgumentError):
        folder = parser.parse_known_args(typed_arguments(config))[0].stress_reports
    return config.rootpath / folder


def typed_arguments(config: pytest.Config) -> list[str]:
    """Return the arguments that pytest joins: of environment, configuration and command line."""
    try:
        of_environment = shlex.split(os.environ.get("PYTEST_ADDOPTS", ""))
    except ValueError:  # An open quotation, which pytest refuses.
        of_environment = []
    of_configuration = map(str, config.getini("addopts"))
    return [*of_environment, *of_configuration, *map(str, config.invocation_params.args)]
