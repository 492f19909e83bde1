"""What GitHub shows beside a pull request: a line for each reason why a run on its runners did not pass.

The format is that of workflow commands, `::error title=TITLE::MESSAGE`; GitHub shows ten of them for each step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import printable
from harness.report.text import self_check_failures
from harness.run.outcome import worst_first

if TYPE_CHECKING:
    from pathlib import Path

    from harness.run.outcome import Outcome

NOT_JUDGED = "the gate could not judge"
SHOWN = 10
"""Annotations of one step that GitHub shows; what comes after is dropped without a word."""


_ENCODED = {"%": "%25", "\r": "%0D", "\n": "%0A"}


def annotation_lines(outcome: Outcome, report: Path) -> list[str]:
    """Return a workflow command for why the run could not judge, and for each gate that fails, the worst first.

    Of more than ten the last says how many more there are, and where: in `report`.
    """
    found = [(NOT_JUDGED, error) for error in (*outcome.errors, *self_check_failures(outcome))]
    found += [
        (verdict.gate.id, verdict.explain()) for verdict in worst_first(outcome.verdicts) if verdict.status == "fail"
    ]
    found += [(failure, "failed") for failure in outcome.failed_tests]
    if len(found) > SHOWN:
        more = len(found) - SHOWN + 1
        found = [*found[: SHOWN - 1], (f"{more} more", f"{more} more gates or tests fail; they are listed in {report}")]
    return [annotation(title, message) for title, message in found]


def annotation(title: str, message: str) -> str:
    """Return the workflow command that shows an error; whatever the texts hold, it is one line and one command."""
    return f"::error title={_property(title)}::{_data(message)}"


def _data(text: str) -> str:
    """Return text with its lines kept as a workflow command does, and what cannot be printed escaped as in Python."""
    return "".join(_ENCODED.get(each) or printable(each) for each in text)


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
