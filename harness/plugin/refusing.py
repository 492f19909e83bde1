"""Refusals of a run that pytest ends: why it does, for the reports and for the outer process.

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
from harness.plugin.place import handover_to
from harness.report.refusal import refusal
from harness.run.handover import RunRecord
from harness.run.status import INTERRUPTED, NOT_JUDGED

if TYPE_CHECKING:
    from pathlib import Path


BEGUN = pytest.StashKey[bool]()
"""True once a run has begun, so that its own end says why it has no verdict."""
RUN_STATE = pytest.StashKey[Any]()
"""The state of the run, `harness.plugin.run.GateRun`, for code that may have to do without that module."""
RUN_ID = pytest.StashKey[str]()
"""The id of a run that this process judges without an outer one."""


def reports_typed(config: pytest.Config) -> Path:
    """Return the folder that reports go to, from a command line that pytest could not parse."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--stress-reports", default="reports")
    folder = "reports"
    with suppress(argparse.ArgumentError):
        folder = parser.parse_known_args(typed_arguments(config))[0].stress_reports
    return config.rootpath / folder


def typed_arguments(config: pytest.Config) -> list[str]:
    """Return the arguments of the environment, of the configuration, and of the command line, which pytest joins."""
    try:
        added = shlex.split(os.environ.get("PYTEST_ADDOPTS", ""))
    except ValueError:  # An open quotation, which pytest refuses.
        added = []
    return [*added, *map(str, config.getini("addopts")), *map(str, config.invocation_params.args)]


def refusing_record(config: pytest.Config, *reasons: str, status: int = NOT_JUDGED) -> RunRecord:
    """Return the record of a run without a verdict, for these reasons."""
    run = run_id_of(config)
    return RunRecord(run, status, json.dumps(refusal(reasons, command_of(config), run=run)))


def status_of(error: BaseException) -> int:
    """Return the exit status of a run that an exception ends."""
    return INTERRUPTED if isinstance(error, KeyboardInterrupt) else NOT_JUDGED


def run_id_of(config: pytest.Config) -> str:
    """Return the id of this run."""
    handover = handover_to(config)
    return str(handover.content["run_id"]) if handover else config.stash[RUN_ID]


def command_of(config: pytest.Config) -> list[str]:
    """Return how a run was started, for everyone to read."""
    handover = handover_to(config)
    command = (
        handover.content["command"] if handover else ["pytest", *config.invocation_params.args]
    )
    return [without_secrets(str(argument)) for argument in command]


def reason_of(error: BaseException) -> str:
    """Return why pytest ends a run; of a wrong command line one line, without its usage."""
    if isinstance(error.__cause__, ImportError):
        return coded(Code.PACKAGE, lacking(error))
    if code_in(str(error)):
        return str(error)
    said = str(error) if isinstance(error, Exception) else repr(error)
    lines = said.splitlines() or [repr(error)]
    line = next((line for line in lines if ": error: " in line), lines[0])
    return coded(
        Code.USAGE if isinstance(error, pytest.UsageError) else Code.PYTEST, printable(line)
    )
