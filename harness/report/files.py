"""The reports of a run, which refuse it until its outcome replaces them; only the standard library is needed."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.base.codes import Code
from harness.base.errors import OutputError
from harness.base.files import read_regular
from harness.base.folder_lock import FolderBusyError, held
from harness.base.outputs import REPORT_JSON, REPORT_MARKDOWN, REPORT_PAGE, Output, write_together
from harness.report.refusal import Refusal, mark_of_page, mark_of_summary
from harness.run.status import MAX_BYTES, PAGE, REPORT, SUMMARY, report_in

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

UNFINISHED = f"[{Code.CRASH}] the run did not finish; run the gate again"
"""The reason of every refusal until a better one is known."""
_KINDS = {PAGE: REPORT_PAGE, SUMMARY: REPORT_MARKDOWN, REPORT: REPORT_JSON}
"""The reports in the order in which an outcome replaces them; a refusal does so the other way round.

So the record is the first to refuse a run and the last to say more.
"""


@dataclass
class Claim:
    """The folder of the reports as that of one run, which this process holds from `take` to `release`.

    `command` is how the run was started, and `known` has further facts of its refusals, as in `Refusal`.
    """

    folder: Path
    command: Sequence[str]
    run: str
    known: dict[str, Any] = field(default_factory=dict)
    process: int = field(default_factory=os.getpid)
    ending: bool = False
    """True if `pytest_cmdline_main` ends the run."""
    published: int | None = None
    """The exit status of the run, once its reports are those of its outcome."""
    hold: ExitStack = field(default_factory=ExitStack)

    def take(self, *, wait: bool, reason: str = UNFINISHED) -> None:
        """Keep other runs out of the folder, and have its reports refuse this run for this reason.

        If another run is there, `wait` for its end. Raises `InputError` for a folder that another run has, or that
        cannot be written; reports there stay unchanged.
        """
        busy = f"{self.folder}: another run of the gate writes there"

        def say() -> None:
            print(f"{busy}; waiting for it to end (no_wait = true: end with 4)", file=sys.stderr, flush=True)

        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            os.utime(self.folder)  # The disk itself may be read-only.
            self.hold.enter_context(held(self.folder, on_wait=say if wait else None))
            self.refuse(reason)
        except FolderBusyError:
            advice = "wait for it to end, or name another folder with --stress-reports"
            raise OutputError(f"{busy}; {advice}") from None
        except OSError as error:
            raise self._not_written(error) from None

    def release(self) -> None:
        """Let other runs into the folder."""
        self.hold.close()

    def refuse(self, *reasons: str) -> None:
        """Have all reports say that the run is inconclusive, and why; raises `InputError` and changes none of them."""
        self._write(Refusal(reasons, self.command, self.run, **self.known).contents(), [*reversed(_KINDS)])

    def publish(self, contents: Mapping[str, bytes], status: int) -> None:
        """Have all reports say how a run ends with this status; raises `InputError` and changes none of them."""
        self._write(contents, [*_KINDS])
        self.published = status

    def _write(self, contents: Mapping[str, bytes], names: Sequence[str]) -> None:
        try:
            write_together(
                {Output(self.folder / name, _KINDS[name], within=self.folder): contents[name] for name in names}
            )
        except OSError as error:
            raise self._not_written(error) from None

    def _not_written(self, error: OSError) -> OutputError:
        return OutputError(
            f"reports cannot be written to {self.folder}: {error.strerror or error}; make room there, or name another "
            "folder with --stress-reports"
        )


def agreed_verdict(folder: Path, *, run: str) -> str:
    """Return the verdict that all three reports of this run carry; empty if one is missing or differs."""
    report = report_in(folder)
    verdict = str(report.get("verdict", ""))
    marks = {SUMMARY: mark_of_summary(run, verdict), PAGE: mark_of_page(run, verdict)}
    try:
        told = (mark.encode() in read_regular(folder / name, max_bytes=MAX_BYTES) for name, mark in marks.items())
        return verdict if report.get("run") == run and all(told) else ""
    except OSError:
        return ""
