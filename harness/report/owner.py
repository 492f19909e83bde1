"""The owner of a verdict, which holds the folder of the reports.

The reports refuse a run until it has left its record. No other module publishes reports or decides
an exit status. Until a run has ended, this one loads neither PyTorch nor NumPy.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import nullcontext, suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from harness.base.codes import Code, coded
from harness.base.errors import InputError, PackageError, code_of, lacking, printable, reason
from harness.base.termination import TerminatedError, termination_raised
from harness.report.refusal import Claim
from harness.run.handover import new_run_id
from harness.run.inner import run_inner
from harness.run.inputs import expect_unchanged, inputs_of_run, state_of
from harness.run.result import RunResult
from harness.run.status import INTERRUPTED, MEANING, NOT_JUDGED, PAGE, REPORT, report_in

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from harness.run.handover import RunRecord
    from harness.run.inner import InnerEnd, Launch
    from harness.run.outcome import Outcome
    from harness.run.request import RunRequest

_PACKAGES = ("cv2", "jinja2", "matplotlib", "PIL", "scipy")
"""Packages without which no report can be drawn; their import takes a second, at the end."""


class Owner:
    """The folder of the reports as that of one run, from `take` to `release`.

    In between the run leaves its record. With a run `in_terminal`, the owner says on standard error
    why a run is inconclusive that did not say so itself.
    """

    def __init__(
        self, folder: Path, command: Sequence[str], run: str, *, in_terminal: bool = True
    ) -> None:
        self._claim = Claim(folder, command, run)
        self._in_terminal = in_terminal
        self._request: RunRequest | None = None
        self._inputs: Mapping[Path, str] = {}
        """The state of each file that the run reads, before it reads any."""

    def take(self, read: Callable[[], RunRequest]) -> RunRequest:
        """Take the folder, have its reports refuse the run, and return the request of the run.

        If another run has the folder, wait for its end, unless the request forbids that.

        Args:
            read: returns the request.

        Raises:
            InputError: another run has the folder, or it cannot be written; reports there stay
                unchanged. Also what `read` raises, which the reports then say.
        """
        try:
            request = read()
            _expect_packages()
        except InputError as error:
            self._claim.take(wait=True)
            self._write_refusal(reason(error))
            raise

        models = {role: printable(path) for role, path in request.checkpoints.items()}
        self._claim.known = {
            "profile": request.profile,
            "models": models,
            "data": printable(request.data),
        }
        self._claim.take(wait=not request.no_wait)
        self._request = request
        self._inputs = state_of(inputs_of_run(request))
        return request

    def release(self) -> None:
        """Let other runs into the folder."""
        self._claim.release()

    def conclude(self, record: RunRecord) -> int:
        """Publish the reports of a run by its record, and return the exit status that follows.

        A record that cannot be believed or published, such as one of inputs that have changed
        meanwhile, makes the run inconclusive.
        """
        outcome: Outcome | None = None
        try:
            from harness.report.redraw import reports_of

            _expect_report(record)
            outcome, reports = reports_of(record.report, record.pictures.__getitem__, where=REPORT)
            if outcome is None:  # The record is a refusal, whose reasons the run has printed.
                self._write_refusal(*json.loads(record.report)["errors"])
                return INTERRUPTED if record.status == INTERRUPTED else NOT_JUDGED

            _expect_agreement(record.status, outcome)
            if outcome.verdict != "error":
                expect_unchanged(self._inputs)
            self._claim.publish({**record.pictures, **reports})
        except (Exception, KeyboardInterrupt) as error:  # A broken package raises anything.
            why = reason(error) if isinstance(error, InputError) else unfinished(error)
            errors = outcome.results.errors if outcome else ()
            self.refuse(*errors, why)
            return NOT_JUDGED

        self._add_to_history(outcome)
        return record.status

    def refuse(self, *reasons: str) -> None:
        """Have the reports say why the run is inconclusive, and print the last reason."""
        self._write_refusal(*reasons)
        self.tell(reasons[-1])

    def tell(self, why: str) -> None:
        """Say on standard error that the run is inconclusive, and why, also to GitHub's runners."""
        if self._in_terminal:
            with suppress(OSError, ValueError):  # Nobody may be reading.
                print(f"ERROR: {explained(why, self._claim.folder)}", file=sys.stderr, flush=True)

    def result(self, status: int, *, why: str) -> RunResult:
        """Return the result with the record in the folder; without one, `why` stands for it."""
        folder = self._claim.folder
        report = report_in(folder)
        if report.get("run") != self._claim.run:
            return RunResult(status, folder, refused=why)
        return RunResult(status, folder, report)

    def _write_refusal(self, *reasons: str) -> None:
        """Have the reports say why the run is inconclusive, or leave the refusal before.

        Reports in a folder that this run has not taken are those of another run, and stay.
        """
        if not self._claim.taken:
            return
        try:
            self._claim.refuse(*reasons)
        except Exception as error:
            with suppress(OSError, ValueError):
                print(reason(error), file=sys.stderr)

    def _add_to_history(self, outcome: Outcome) -> None:
        """Add the run's line to the history; no failure changes the verdict in the reports."""
        from harness.run.history import history_of, leave_line

        request = self._request
        if request is None or request.history_path is None or outcome.history is None:
            return
        try:
            history = history_of(request, request.history_path)
            failure = leave_line(history, outcome.history.lines[-1])
        except Exception as error:
            failure = f"history: this run leaves no line ({error})"
        if failure:
            with suppress(OSError, ValueError):
                print(printable(failure), file=sys.stderr)


def judge(
    read: Callable[[], RunRequest],
    launch: Launch,
    *,
    reports: Path,
    in_terminal: bool = False,
    on_line: Callable[[str], None] | None = None,
) -> RunResult:
    """Run the gate in an inner process, and return its result.

    Args:
        read: returns the request.
        launch: the start of the inner process.
        reports: the folder of reports of the request.
        in_terminal: as in `run_inner`.
        on_line: as in `run_inner`.
    """
    run_id = new_run_id()
    owner = Owner(reports, launch.command, run_id, in_terminal=in_terminal)
    try:
        with termination_raised() if in_terminal else nullcontext():
            try:
                request = owner.take(read).but(run_id=run_id)
            except InputError as error:
                owner.tell(reason(error))
                return owner.result(NOT_JUDGED, why=reason(error))
            end = run_inner(request, launch, in_terminal=in_terminal, on_line=on_line)
            return _result_of(end, owner, reports)
    except (TerminatedError, KeyboardInterrupt, Exception) as error:  # Without an inner process.
        why = str(error) if isinstance(error, TerminatedError) else unfinished(error)
        owner.refuse(why)
        if not in_terminal and not isinstance(error, Exception):
            raise
        status = INTERRUPTED if isinstance(error, KeyboardInterrupt) else NOT_JUDGED
        return owner.result(status, why=why)
    finally:
        owner.release()


def _result_of(end: InnerEnd, owner: Owner, reports: Path) -> RunResult:
    """Return the result of a run by how its inner process ended."""
    if end.record is None:
        status = INTERRUPTED if end.was_interrupted else NOT_JUDGED
        why = end.without_record
        owner.refuse(why)
    else:
        status = owner.conclude(end.record)
        why = f"the reports in {reports} are of another run"
    return replace(owner.result(status, why=why), status=end.status, printed=end.printed)


def _expect_report(record: RunRecord) -> None:
    """Raise `InputError` for the record of a run that judged nothing."""
    if not record.report:
        raise InputError(
            f"pytest ended with exit status {record.status} and without a verdict",
            code=Code.PYTEST,
        )


def _expect_agreement(status: int, outcome: Outcome) -> None:
    """Raise `InputError` where pytest ended with another exit status than the verdict has.

    A run that Ctrl-C ended has a status of its own, and is never whole.
    """
    if status == outcome.exit_status:
        return
    if status == INTERRUPTED and outcome.verdict in {"partial", "error"}:
        return
    raise InputError(
        f"the run ended with exit status {status} though its verdict has {outcome.exit_status}, as "
        "by another plugin; run the gate without it",
        code=Code.PYTEST,
    )


def _expect_packages() -> None:
    """Raise `PackageError` for a missing package that draws the reports, before the run starts."""
    for name in _PACKAGES:
        if find_spec(name) is None:
            raise PackageError(lacking(ModuleNotFoundError(f"No module named {name!r}", name=name)))


def unfinished(error: BaseException) -> str:
    """Return in one line, with its code, why a run came to no end."""
    cause = "it was interrupted" if isinstance(error, KeyboardInterrupt) else lacking(error)
    return coded(code_of(error), f"the run came to no end: {cause}")


def explained(why: str, reports: Path) -> str:
    """Return what a terminal shows of a run without a verdict, whose reports are in a folder."""
    return "\n".join([why, *_annotations(why), MEANING, f"report: {shortest(reports / PAGE)}"])


def _annotations(why: str) -> list[str]:
    """Return the annotation of a run without a verdict on a runner of GitHub's; none elsewhere."""
    if not on_github():
        return []
    from harness.report.text import NOT_JUDGED as KIND
    from harness.report.text import annotation

    return [annotation(KIND, why)]


def on_github() -> bool:
    """Return whether this runs on GitHub's runner, which takes annotations from printed lines."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


def shortest(path: Path) -> Path:
    """Return a path relative to the working folder if it is in there."""
    with suppress(OSError):  # The working folder may be gone.
        return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return path
