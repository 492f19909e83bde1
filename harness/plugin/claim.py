"""The begin of a run that judges: its reports refuse it from here on, until its outcome replaces them.

This module and those that it imports need no package besides pytest.
"""

from __future__ import annotations

import sys
import uuid
from functools import partial
from typing import TYPE_CHECKING

import pytest

from harness.base.codes import Code, code_in, coded
from harness.base.errors import InputError, OutputError, end_copy, lacking, printable, reason
from harness.base.files import is_held
from harness.plugin.place import command_of, handover_to, reports_named, waits_for_others
from harness.report.refusal import Claim
from harness.run.status import INTERRUPTED, NOT_JUDGED

if TYPE_CHECKING:
    from pathlib import Path

CLAIM = pytest.StashKey[Claim]()
"""The reports of a run that judges; workers, plans and listings have none."""


def claim_early(config: pytest.Config) -> None:
    """Claim the reports if this call judges, which its typed line says; `pytest_configure` does it where that fails."""
    folder = reports_named(config)
    # A root directory elsewhere may be a mistake of pytest, and a worker of the run finds the folder held.
    if folder is not None and not is_held(folder) and config.invocation_params.dir.is_relative_to(config.rootpath):
        claim(config, folder)


def claim(config: pytest.Config, folder: Path) -> Claim:
    """Take the folder of the reports, and refuse this run there; raises `UsageError` where that cannot be done."""
    known = config.stash.get(CLAIM, None)
    if known and known.folder == folder:
        return known
    if known:  # Not all options stand on the typed line, as in a file behind @.
        refuse(known, f"[{Code.PYTEST}] the reports of this run are in {folder}")
        known.ending = True
        known.release()
    asked = handover_to(config)
    made = Claim(folder, command_of(config), asked.content.get("run_id") or uuid.uuid4().hex)
    try:
        if is_held(folder):
            raise OutputError(
                f"{folder}: the run that started this one writes there; name another with --stress-reports"
            )
        made.take(wait=waits_for_others(config))
    except InputError as error:
        made.release()
        asked.answer(status=NOT_JUDGED, reason=reason(error))
        raise pytest.UsageError(reason(error)) from None
    config.stash[CLAIM] = made
    asked.answer(reports=str(folder))
    config.add_cleanup(partial(_give_up, config, made))
    return made


def _give_up(config: pytest.Config, claimed: Claim) -> None:
    """Say why pytest ends a run before it begins: a wrong command line, a `conftest.py`, or another plugin."""
    end_copy(claimed.process)
    error = sys.exception()
    if claimed.ending or error is None:
        return
    refuse(claimed, why := reason_of(error))
    claimed.release()
    handover_to(config).answer(status=INTERRUPTED if isinstance(error, KeyboardInterrupt) else NOT_JUDGED)
    if isinstance(error, pytest.UsageError):
        error.args = (coded(Code.USAGE, str(error)),)
    elif not isinstance(error, KeyboardInterrupt) and type(error).__name__ != "ConftestImportFailure":
        raise pytest.UsageError(why)  # Pytest would end with 1 or 3, or as a call of `sys.exit` says.


def refuse(claimed: Claim, *reasons: str) -> None:
    """Have the reports say why the run is inconclusive; where that cannot be written, an earlier refusal stays."""
    try:
        claimed.refuse(*reasons)
    except Exception as error:
        print(reason(error), file=sys.stderr)


def reason_of(error: BaseException) -> str:
    """Return why pytest ends a run; of a wrong command line one line, without its usage."""
    if isinstance(error.__cause__, ImportError):
        return coded(Code.PACKAGE, lacking(error))
    if code_in(str(error)):
        return str(error)
    lines = str(error).splitlines() or [repr(error)]
    line = next((line for line in lines if ": error: " in line), lines[0])
    return coded(Code.USAGE if isinstance(error, pytest.UsageError) else Code.PYTEST, printable(line))
