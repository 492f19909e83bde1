"""Annotations on GitHub: one command per failure, whatever a name or a message holds, and no more than are shown."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from outcomes import BROKEN, EMPTY, FAIL, MISSING, PASS, REPORTED, verdict

from harness.report.text import annotation, annotation_lines
from harness.run.outcome import SelfCheck

PAGE = Path("reports/stress.html")


def commands(**changes) -> list[tuple[str, str]]:
    """Return (title, message) of each command, read as GitHub reads them."""
    found = []
    for line in annotation_lines(replace(EMPTY, **changes), PAGE):
        title, message = re.fullmatch(r"::error title=([^:,\r\n]*)::([^\r\n]*)", line).groups()
        for code, character in (("%3A", ":"), ("%2C", ","), ("%0D", "\r"), ("%0A", "\n"), ("%25", "%")):
            title, message = title.replace(code, character), message.replace(code, character)
        found.append((title, message))
    return found


def test_a_run_that_passes_has_none():
    assert commands(verdicts=(PASS, REPORTED, MISSING)) == []


def test_each_failing_gate_has_one_the_worst_first():
    near, far = verdict("fail", "near", value=0.84), verdict("fail", "far", value=0.5)
    assert commands(verdicts=(PASS, near, far)) == [("far", far.explain()), ("near", near.explain())]


def test_what_kept_the_run_from_judging_comes_before_checks_that_fail():
    unsound = SelfCheck("turned-020", "fail", "nobody noticed")
    found = commands(verdicts=(FAIL, BROKEN), errors=("the model returned NaN",), self_checks=(unsound,))
    assert found == [
        ("the run is inconclusive", "the model returned NaN"),
        ("the run is inconclusive", "[SELF_CHECK] self-check turned-020: nobody noticed"),
        ("bad", FAIL.explain()),
    ]


def test_tests_without_a_gate_are_named():
    assert commands(failed_tests=("test_own.py::test_mine",)) == [("test_own.py::test_mine", "failed")]


@pytest.mark.parametrize("count", [10, 11, 30])
def test_github_shows_ten_so_the_last_of_more_counts_the_rest(count):
    found = commands(verdicts=tuple(verdict("fail", f"gate-{number:02}") for number in range(count)))
    assert len(found) == 10
    if count == 10:
        assert found[-1][0] == "gate-09"
    else:
        told = f"{count - 9} more checks or tests fail; they are listed in reports/stress.html"
        assert found[-1] == (f"{count - 9} more", told)


@pytest.mark.parametrize(
    ("title", "message", "line"),
    [
        ("a", "50% of Shirt", "::error title=a::50%25 of Shirt"),
        ("a", "one\r\ntwo", "::error title=a::one%0D%0Atwo"),
        ("a", "x: y, z::w", "::error title=a::x: y, z::w"),
        ("a,file=b.py::c", "d", "::error title=a%2Cfile=b.py%3A%3Ac::d"),
        ("50%\n", "%0A", "::error title=50%25%0A::%250A"),
    ],
    ids=["percent", "lines", "colons-in-the-message", "a-title-that-would-add-a-property", "escapes-themselves"],
)
def test_nothing_in_a_text_ends_or_adds_a_command(title, message, line):
    assert annotation(title, message) == line
