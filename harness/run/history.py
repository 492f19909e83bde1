"""Run history: one line per run in a file, read back as a series of candidates."""

from __future__ import annotations

import json
from dataclasses import field
from datetime import UTC
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from pydantic import AwareDatetime, Field

from harness.base.codes import Code
from harness.base.errors import InputError, printable, said_of
from harness.base.files import numbered_lines
from harness.base.outputs import HISTORY, Output
from harness.base.records import as_json, read_json, record, refusal_of_schema
from harness.measures.panel.threshold import POWER
from harness.run.inputs import inputs_of_run
from harness.run.settings import HISTORY_FILE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from harness.run.request import RunRequest


SCHEMA = 2
LAST = 50
"""Candidates that are shown at once."""
MAX_BYTES = 64 << 20
"""Larger files are refused: this is enough for 50,000 runs."""
FARTHEST = 99.0
"""Standard deviations beyond which a margin says no more."""

Overall = Literal["pass", "fail", "partial", "error"]
"""The verdict of a run."""

WHOLE = frozenset({"pass", "fail"})
"""Verdicts on a whole."""

Share = Annotated[float, Field(ge=0, le=1)]


@record
class HistoryLine:
    """One run: its candidate, its time (UTC), its verdict and its main values.

    `candidate`, `data` and `checks` are hashes, SHA-256, of the checkpoint, the images and the
    checks file. `data_name` is empty in lines of older versions. `failing` are the ids of the
    failing checks, out of `judged` ones. `clean` is the clean accuracy, `worst_pose` the lowest
    accuracy of a check at a pose, `robust_accuracy` that over the augmentation range. `margins` has
    the smallest margin of each family, negative beyond the threshold, see
    `harness.run.outcome.margin`. A run that `stopped` at its first failure has no values, and is in
    no series.
    """

    candidate: str
    at: AwareDatetime
    schema: int
    path: str
    verdict: Overall
    profile: str
    data: str
    checks: str
    judged: int
    failing: tuple[str, ...] = ()
    clean: Share | None = None
    worst_pose: Share | None = None
    robust_accuracy: Share | None = None
    margins: dict[str, float] = field(default_factory=dict)
    data_name: str = ""
    stopped: bool = False

    @property
    def series(self) -> tuple[str, str]:
        """Return the profile and the data, which comparable runs share."""
        return self.profile, self.data

    @property
    def date(self) -> str:
        """Return the day and minute of the run, UTC."""
        return f"{self.at.astimezone(UTC):%Y-%m-%d %H:%M}"


class Since(NamedTuple):
    """The first of the consecutive failing runs of a check, and their number.

    The last of them is the last run. `before` says whether an earlier run is known, in which the
    check passes or has no verdict.
    """

    check: str
    first: HistoryLine
    runs: int
    before: bool


@record
class History:
    """The runs of a file, oldest first, and its unreadable lines, a line of text each."""

    lines: tuple[HistoryLine, ...]
    damaged: tuple[str, ...] = ()

    @property
    def series(self) -> dict[tuple[str, str], tuple[HistoryLine, ...]]:
        """Return whole verdicts by profile and data, the latest first.

        The last run of each candidate, oldest first.
        """
        last: dict[tuple[str, str], dict[str, HistoryLine]] = {}
        for line in reversed(self.lines):
            if line.verdict in WHOLE and not line.stopped:
                last.setdefault(line.series, {}).setdefault(line.candidate, line)
        return {like: tuple(reversed(lines.values())) for like, lines in last.items()}


def attempt_of(now: HistoryLine, before: Sequence[HistoryLine]) -> int:
    """Return how many different candidates the same checks have judged on the same data.

    That of this run counts. Equal files count once. It is 0 for a run without a whole verdict.
    """
    same = (line for line in before if (line.data, line.checks) == (now.data, now.checks))
    judged = {line.candidate for line in (*same, now) if line.verdict in WHOLE}
    return len(judged) if now.verdict in WHOLE else 0


def chance_of_a_pass(attempts: int) -> float:
    """Return how probably a recipe passes at least once in so many attempts.

    Its models are at the minimum detectable drop.
    """
    return 1.0 - POWER**attempts


def failing_since(lines: Sequence[HistoryLine]) -> list[Since]:
    """Return the start of the failure of each check that fails in the last run.

    The longest failure comes first.
    """
    found = []
    for check in lines[-1].failing if lines else ():
        runs = next(
            (back for back, line in enumerate(reversed(lines)) if check not in line.failing),
            len(lines),
        )
        found.append(Since(check, lines[-runs], runs, before=runs < len(lines)))
    return sorted(found, key=lambda since: -since.runs)


def history_of(request: RunRequest, path: Path) -> Output:
    """Return the file of a run's history, which is none of its inputs."""
    return Output(path, HISTORY, inputs_of_run(request), within=request.reports_folder)


def leave_line(output: Output, line: HistoryLine) -> str:
    """Add the line of a run to its history, one process at a time.

    Return what failed, which changes no verdict.
    """
    try:
        output.append_line(as_json(line))
    except Exception as error:
        return printable(f"history: this run left no line in {output.path} ({said_of(error)})")
    return ""


def read_history(path: Path) -> History:
    """Read the runs of a file, by time; a line that is none is skipped, and named in `damaged`.

    Lines that say the same are one, as a merge may leave them. No file is an empty history. Raises
    `InputError` for a file that cannot be read.
    """
    try:
        numbered = numbered_lines(path, max_bytes=MAX_BYTES) if path.exists() else []
    except OSError as error:
        raise InputError(
            f"{path}: the history cannot be read ({said_of(error)})", code=Code.HISTORY
        ) from None
    lines: dict[bytes, HistoryLine] = {}
    damaged: list[str] = []
    for number, content in numbered:
        where = f"{path}: line {number}"
        try:
            if content.startswith((b"<<<<<<<", b"=======", b">>>>>>>", b"|||||||")):
                raise InputError(
                    f"{where}: is a mark of a merge conflict; keep the lines of both sides "
                    f"(`{HISTORY_FILE} merge=union` in .gitattributes does so by itself)"
                )
            plain = json.loads(content)
            if (schema := plain.get("schema") if isinstance(plain, dict) else None) != SCHEMA:
                raise InputError(refusal_of_schema(where, schema, expected=SCHEMA))
            line = read_json(HistoryLine, content, where=where)
            line.at.astimezone(UTC)
            lines[content.strip()] = line
        except (
            InputError,
            ValueError,
            RecursionError,
            OverflowError,
        ) as error:  # Not every date is one in UTC, too.
            why = (
                str(error)
                if isinstance(error, InputError)
                else f"{where}: is no JSON with a date in UTC ({error})"
            )
            damaged.append(
                f"{why}; it is skipped and stays unchanged: mend it, or take it out of the file"
            )
    return History(tuple(sorted(lines.values(), key=lambda line: line.at)), tuple(damaged))
