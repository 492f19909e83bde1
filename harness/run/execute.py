"""A gate run in a process of its own: how it is started, what passes between the two, and what comes of it.

No other module starts pytest.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.base import imports
from harness.base.codes import Code
from harness.base.errors import InputError
from harness.base.records import read_json
from harness.base.termination import GRACE_SECONDS, TerminatedError, termination_raised
from harness.run.budget import Plan
from harness.run.handover import Handover
from harness.run.history import Line
from harness.run.request import command_line, joined, new_run_id, value_in
from harness.run.shown import address_of, image_in
from harness.run.status import INTERRUPTED, NOT_JUDGED, report_in

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from harness.run.request import RunRequest

_TAIL = 15
"""Last lines of its output that the result of a run keeps."""
_SHOWN = 8
"""Images of failing checks that a notebook shows."""
_CHILD = """\
import pathlib, sys
parent, path = int(sys.argv[1]), pathlib.Path(sys.argv[2])
from harness.base.termination import end_with_parent
end_with_parent(parent)
sys.argv = sys.argv[3:]
"""
PYTEST = """\
import pytest
from harness.run.handover import Handover
sys.exit(pytest.main(sys.argv[1:], plugins=[Handover(path)]))
"""
"""The code of a run's process, the second part with pytest's command line in `sys.argv` and the request at `path`."""


@dataclass(frozen=True)
class Measured:
    """Result of one check: the `value` measured on `n` images, and its threshold.

    In a run that stops after n of its `stopped` images, the value is the best that the others can make it.
    """

    id: str
    role: str
    family: str
    metric: str
    status: str
    value: float | None
    threshold: float | None
    direction: Literal["at_least", "at_most"]
    n: int
    explanation: str
    stopped: int = 0

    @staticmethod
    def of(entry: Mapping[str, Any]) -> Measured:
        """Return the result in an entry of `stress.json`."""
        return Measured(**{item.name: entry[item.name] for item in fields(Measured)})


@dataclass(frozen=True)
class RunResult:
    """Result of a run. An inconclusive run has the verdict `error` and `exit_status` 4; `errors` say why.

    `report` is the content of `stress.json`, None where that is of another run, and `reports` its folder. `concluded`
    says whether the run ended by itself: one that crashed did not. `printed` are the last lines that it printed, empty
    where they went to the terminal. `status` is that of its process. `plan` is the answer to a request for a plan
    alone. `trace` is the file of the history and the run's line, for the caller to add: it alone knows the final
    status. `refused` says why the run left no report.
    """

    exit_status: int
    reports: Path
    report: Mapping[str, Any] | None = None
    concluded: bool = True
    status: int = 0
    printed: tuple[str, ...] = ()
    plan: Plan | None = None
    trace: tuple[Path, Line] | None = None
    refused: str = ""

    @property
    def verdict(self) -> str:
        """Return pass, fail, partial or error."""
        return "error" if self.report is None or not self.concluded else str(self.report["verdict"])

    @property
    def passed(self) -> bool:
        """Return whether every check of a whole run passes."""
        return self.verdict == "pass"

    @property
    def headline(self) -> str:
        """Return the verdict in one sentence."""
        said = "" if self.report is None else self.report.get("headline", "")
        return str(said) if said and self.concluded else f"{self.verdict.upper()}: {' '.join(self.errors)}"

    @property
    def errors(self) -> tuple[str, ...]:
        """Return why nothing could be judged."""
        if self.report is not None and self.report.get("errors"):
            return tuple(self.report["errors"])
        if self.concluded and self.report is not None:
            return ()
        return (self.refused or without_verdict(self.status),)

    @cached_property
    def checks(self) -> tuple[Measured, ...]:
        """Return the results, check by check."""
        return tuple(map(Measured.of, self.report["checks"])) if self.report else ()

    @property
    def failed(self) -> tuple[Measured, ...]:
        """Return the checks that fail."""
        return tuple(check for check in self.checks if check.status == "fail")

    @property
    def page(self) -> Path:
        """Return the path of the report for people."""
        return self.reports / "stress.html"

    def __str__(self) -> str:
        return self.headline

    def _repr_html_(self) -> str:
        """Return the headline, the worst pictures of failing checks and the table, as a notebook shows them."""
        titles = ("check", "status", "value", "threshold", "n")
        sign = {"at_least": "≥ ", "at_most": "≤ "}
        rows = [
            (
                each.id,
                each.status,
                _number(each.value, "at most " if each.stopped else ""),
                _number(each.threshold, sign[each.direction]),
                f"{each.n} of {each.stopped}" if each.stopped else f"{each.n}",
            )
            for each in self.checks
        ]
        head = "".join(f"<th>{title}</th>" for title in titles)
        body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>" if rows else ""
        return f"<p><b>{escape(self.headline)}</b></p>{self._faces()}{table}"

    def _faces(self) -> str:
        """Return the first images of failing checks, with their classes; those that are gone are left out."""
        shown, said = (self.report or {}).get("pictures", {}), dict[str, str]()
        for found in (shown.get(check.id, {}) for check in self.failed):
            for case in found.get("cases", ()):
                wrong = [line["text"] for each in case["columns"] for line in each["lines"] if line["kind"] == "wrong"]
                said.setdefault(case["columns"][0]["image"], ": ".join([case["columns"][0]["words"], *wrong[:1]]))
            for face in found.get("faces", ()):
                said.setdefault(face["image"], f"{face['true']}: {face['said']}")
        figures = []
        for image, text in list(said.items())[:_SHOWN]:
            with suppress(InputError):
                drawn = f'<img src="{address_of(image_in(self.reports, image))}" width="96" alt="">'
                figures.append(f'<figure style="display:inline-block;margin:4px">{drawn}<br>{escape(text)}</figure>')
        return f"<div>{''.join(figures)}</div>" if figures else ""


def _number(value: float | None, sign: str = "") -> str:
    return "" if value is None else f"{sign}{value:.4g}"


def without_verdict(status: int) -> str:
    """Return the message that a run ended with this status and without a verdict."""
    return (
        f"[{Code.CRASH}] the gate ended with exit status {status} and without a verdict: it crashed, or the model or a "
        "test ended it; nothing was judged"
    )


def execute(
    request: RunRequest,
    *,
    shown: bool = False,
    on_line: Callable[[str], None] | None = None,
    by: Callable[[Path, Sequence[str]], tuple[int, tuple[str, ...]]] | None = None,
) -> RunResult:
    """Run the gate in a child process and return its result.

    If `shown`, its output goes to the terminal, and else line by line to `on_line`; the last lines are in the result.
    The child ends with this process. A child that is shown handles Ctrl-C itself, and the status is 2 then. SIGTERM and
    SIGHUP to this process go to that child, too. It ends with 4, and after 10 s it is killed. `by` starts pytest in
    place of a new process: it takes the file of the request and the arguments, and returns status and lines.
    """
    request = request if request.run_id else request.but(run_id=new_run_id())
    arguments = [*request.tests, *joined(request.options)]
    reports = request.root / (value_in(arguments, "reports") or request.reports)
    with tempfile.TemporaryDirectory() as folder:
        path = hand_over(request, Path(folder, "request.json"))
        environment = {"PYTHONHASHSEED": "0", **os.environ}  # The same in each run.
        if by:
            status, printed = by(path, arguments)
        else:
            status, printed = _run(command_to_start(path, arguments), environment, shown=shown, on_line=on_line)
        answers = Handover(path).content
    imports.include(answers.get("code", {}))
    concluded = answers.get("status") == status or status == INTERRUPTED
    reports = Path(answers.get("reports", reports))
    report = report_in(reports)
    return RunResult(
        status if concluded else NOT_JUDGED,
        reports,
        report if report.get("run") == request.run_id else None,
        concluded,
        status,
        printed[-_TAIL:],
        read_json(Plan, answers["plan"], where="a plan") if "plan" in answers else None,
        (Path(answers["history"]), read_json(Line, answers["line"], where="a line")) if "line" in answers else None,
        str(answers.get("reason", "")),
    )


def command_to_start(path: Path, arguments: Sequence[str]) -> list[str]:
    """Return the command of this process for a run with a request from `hand_over`; see `execute`."""
    return [sys.executable, "-u", "-c", _CHILD + PYTEST, str(os.getpid()), str(path), "pytest", *arguments]


def _run(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    shown: bool,
    on_line: Callable[[str], None] | None,
) -> tuple[int, tuple[str, ...]]:
    if shown:
        return _shown(command, environment), ()
    how: dict[str, Any] = {"env": environment}
    if on_line is None:
        run = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, **how)  # noqa: S603
        return run.returncode, tuple((run.stdout + run.stderr).strip().splitlines())
    how |= {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "errors": "replace"}
    lines: list[str] = []
    with subprocess.Popen(command, **how) as child:  # noqa: S603
        for line in child.stdout or ():
            lines.append(line.rstrip("\n"))
            on_line(lines[-1])
    return child.returncode, tuple(lines)


def _shown(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a command in this terminal and return its exit status, 2 where Ctrl-C ended it.

    A signal that asks this process to end is passed on, for the child to say so in its reports.
    """
    with termination_raised(), subprocess.Popen(command, env=environment) as child:  # noqa: S603  Our own command.
        while child.returncode is None:
            try:
                child.wait()
            except KeyboardInterrupt:  # The child is interrupted, too.
                continue
            except TerminatedError as ended:
                child.send_signal(ended.signal)
                with suppress(subprocess.TimeoutExpired):
                    child.wait(timeout=GRACE_SECONDS)
                child.kill()
    return INTERRUPTED if child.returncode == -signal.SIGINT else child.returncode


def hand_over(request: RunRequest, path: Path) -> Path:
    """Write a request into a file, for the process that runs it, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    asked = {"run_id": request.run_id, "request": request.plain, "command": ["pytest", *command_line(request)]}
    path.write_text(json.dumps(asked), "utf-8")
    return path
