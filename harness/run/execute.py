"""A gate run in a process of its own: how it is started, what passes between the two, and what comes of it.

No other module starts pytest.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.base import imports
from harness.base.codes import Code
from harness.base.errors import InputError, PackageError
from harness.base.records import read_json, read_record
from harness.base.termination import GRACE_SECONDS, TerminatedError, termination_raised
from harness.checks import Verdict
from harness.run.budget import Plan
from harness.run.handover import Handover
from harness.run.history import Line
from harness.run.request import command_line, joined, new_run_id, value_in
from harness.run.shown import Pictures, address_of, image_in
from harness.run.status import INTERRUPTED, NOT_JUDGED, REPORT, report_in

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pandas import DataFrame

    from harness.run.request import RunRequest

_TAIL = 15
"""Last lines of its output that the result of a run keeps."""
_SHOWN = 8
"""Images of failing checks that a notebook shows."""
_SIDE = 112
"""Pixels of the width that images in a notebook have at most."""
_NUMBERS = ("value", "threshold", "reference_mean", "reference_std", "minimum_detectable_drop")
_COLUMNS = (
    *("id", "role", "family", "metric", "unit", "status", "direction", "n", "provenance"),
    *_NUMBERS,
    *("detail", "explanation"),
)
"""Fields of a check in `stress.json` that are columns of a table, and those of them with a number or none."""
_NOT_PASSED = {"error", "fail", "inconclusive"}
"""Statuses of the checks that a notebook shows first."""
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
        """Return what a notebook shows: the headline, images of failing checks, and tables.

        Checks that do not pass come first, the worst on top. All others are folded if there are such checks.
        """
        checks = self._worst_first()
        failing = [check for check in checks if check.status in _NOT_PASSED]
        others = [check for check in checks if check.status not in _NOT_PASSED]
        counts = Counter(check.status.replace("_", " ") for check in others)
        summary = ", ".join(f"{count} {status}" for status, count in counts.items())
        opened = "" if failing else " open"
        folded = f"<details{opened}><summary>{summary}</summary>{_table(others)}</details>"
        parts = [
            f"<p><b>{escape(self.headline)}</b></p>",
            self._images([check.id for check in failing]),
            _table(failing) if failing else "",
            folded if others else "",
        ]
        return "".join(parts)

    def to_pandas(self) -> DataFrame:
        """Return a table of pandas with a row for each check, in the order of the checks file.

        Its index is the id. `interval_low` and `interval_high` are the ends of the 95% interval.
        An inconclusive run may have no row. Raises `PackageError` if pandas is missing.

            result.to_pandas().query("status == 'fail'").sort_values("family")
        """
        try:
            from pandas import DataFrame
        except ImportError as error:
            raise PackageError(
                f"to_pandas: needs pandas, which cannot be imported ({error}); pip install 'stress-harness[pandas]'"
            ) from None

        entries = self.report["checks"] if self.report else ()
        rows = [[entry[name] for name in _COLUMNS] for entry in entries]
        table = DataFrame(rows, columns=list(_COLUMNS))
        intervals = [entry["interval"] or (None, None) for entry in entries]
        table["interval_low"] = [low for low, _ in intervals]
        table["interval_high"] = [high for _, high in intervals]
        numbers = [*_NUMBERS, "interval_low", "interval_high"]
        return table.astype(dict.fromkeys(numbers, "float64")).set_index("id")

    def _worst_first(self) -> list[Measured]:
        """Return the results in the order of the report, the worst failure first."""
        from harness.run.outcome import plain_verdicts, worst_first

        if self.report is None:
            return []
        verdicts = read_record(tuple[Verdict, ...], plain_verdicts(self.report), where=REPORT)
        by_id = {check.id: check for check in self.checks}
        return [by_id[verdict.check.id] for verdict in worst_first(verdicts)]

    def _images(self, names: Sequence[str]) -> str:
        """Return the first images of these checks, with words; images that are gone are left out."""
        pictures = (self.report or {}).get("pictures", {})
        words: dict[str, str] = {}
        for name in names:
            shown = read_record(Pictures, pictures.get(name, {}), where=REPORT)
            for image, said in shown.seen:
                words.setdefault(image, said)

        figures = []
        for image, said in [*words.items()][:_SHOWN]:
            with suppress(InputError):
                figures.append(_figure(image_in(self.reports, image), said))
        return f"<div>{''.join(figures)}</div>" if figures else ""


def _table(checks: Sequence[Measured]) -> str:
    """Return checks as a table of HTML."""
    sign = {"at_least": "≥ ", "at_most": "≤ "}
    lines = []
    for check in checks:
        cells = (
            check.id,
            check.status.replace("_", " "),
            _number(check.value, "at most " if check.stopped else ""),
            _number(check.threshold, sign[check.direction]),
            f"{check.n} of {check.stopped}" if check.stopped else f"{check.n}",
        )
        lines.append("".join(f"<td>{escape(cell)}</td>" for cell in cells))

    titles = ("check", "status", "value", "threshold", "n")
    head = "".join(f"<th>{title}</th>" for title in titles)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _figure(content: bytes, words: str) -> str:
    """Return an image as HTML with its words below.

    A small image is enlarged by a whole factor, without smoothing, because a browser would blur it.
    """
    width = _width_of(content)
    factor = max(1, _SIDE // width)
    shown = min(width * factor, _SIDE)
    look = ' style="image-rendering:pixelated"' if factor > 1 else ""
    image = f'<img src="{address_of(content)}" width="{shown}"{look} alt="{escape(words)}">'
    frame = f"display:inline-block;margin:4px;max-width:{_SIDE + 24}px;vertical-align:top"
    return f'<figure style="{frame}">{image}<br>{escape(words)}</figure>'


def _width_of(content: bytes) -> int:
    """Return the width of a WebP image in pixels; raises `InputError` for any other content."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=["WEBP"]) as image:
            return image.width
    except (OSError, ValueError) as error:
        raise InputError(f"a picture of the record cannot be read ({error})") from None


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
