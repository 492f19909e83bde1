"""An export started: its tests are collected in a process of their own, which writes the images."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

from harness.base.codes import Code
from harness.base.errors import InputError
from harness.checks import read_checks
from harness.run.budget import seconds_in
from harness.run.execute import execute
from harness.run.request import RunRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from harness.run.export.request import ExportOrder

SAID, REFUSED = "export-inputs: ", "ERROR: "
"""Prefixes of the lines of the process that are for a person: of progress, and of errors."""


def export_inputs(
    order: ExportOrder,
    checks: Path,
    *,
    budget: str | None = None,
    options: Sequence[str] = (),
    say: Callable[[str], None] = lambda _line: None,
) -> None:
    """Write the images that the tests beside a checks file ask about; `options` are of pytest.

    `say` takes lines on what is done. Raises `InputError` for what cannot be exported.
    """
    if budget is not None:
        seconds_in(budget)
    quick = read_checks(checks).data.sample is not None

    def told(line: str) -> None:
        if line.startswith(SAID.rstrip(": ")):
            say(line.removeprefix(SAID))

    with tempfile.TemporaryDirectory() as folder:
        request = RunRequest(
            checks=checks,
            profile="quick" if quick else "default",
            plan=True,
            budget=budget,
            reports=folder,
            tests=(str(checks.parent),),
            options=("-q", "-s", "-p", "no:cacheprovider", *options),
            export=order,
        )
        result = execute(request, on_line=told)
    if result.status:
        why = [line.removeprefix(REFUSED) for line in result.printed if line.startswith(REFUSED)]
        ended = f"nothing was exported; pytest ended with exit status {result.status}:"
        raise InputError(why[-1]) if why else InputError(ended, below=result.printed, code=Code.PYTEST)
