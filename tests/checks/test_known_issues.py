"""Known issues: what the file may hold, what expires, and where reports show them.

No verdict changes.
"""

import html
from dataclasses import replace
from datetime import date
from types import SimpleNamespace

import pytest
from outcomes import EMPTY, outcome_with
from overviews import overview

from harness.base.errors import InputError
from harness.checks import Check, Threshold
from harness.checks.known import KNOWN, KnownIssue, read_known
from harness.measures import Measurement
from harness.measures.accuracy import ACCURACY
from harness.report.mistakes import confusions
from harness.report.sections import checks
from harness.run.notices import known_issue_notices
from harness.run.overview import Mistake
from harness.run.stress_json import stress_json

ISSUE = """
[[issue]]
check = "clean-shirt"
reason = "labels are being corrected"
owner = "Ada"
until = "2026-12-31"
"""
OF_IMAGE = ISSUE.replace('check = "clean-shirt"', "image = 17")


def read(folder, text: str) -> tuple[KnownIssue, ...]:
    (folder / KNOWN).write_text(text)
    return read_known(SimpleNamespace(path=folder / "checks.toml"))


def test_an_issue_is_of_a_check_or_of_an_image_and_expires(tmp_path):
    assert read_known(SimpleNamespace(path=tmp_path / "checks.toml")) == ()
    of_check, of_image = read(tmp_path, ISSUE + OF_IMAGE)
    assert (of_check.about, of_image.about) == ("clean-shirt", "image 17")
    said = of_check.said(date(2026, 12, 31))
    assert said == "known issue until 2026-12-31: labels are being corrected (Ada)"
    assert of_check.said(date(2027, 1, 1)).startswith("known issue, expired on 2026-12-31")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            ISSUE.replace("2026-12-31", "2026-02-30"),
            "issue 1: until is '2026-02-30', expected a day",
        ),
        (ISSUE.replace("2026-12-31", "soon"), "until"),
        (ISSUE.replace('owner = "Ada"', ""), "owner"),
        (ISSUE.replace('"Ada"', '""'), "owner"),
        (ISSUE + "image = 17", "issue 1: names both of `check` and `image`"),
        (OF_IMAGE.replace("image = 17", ""), "issue 1: names neither of `check` and `image`"),
        (ISSUE + "verdict = 'pass'", "verdict"),
        ("[[issue", "not valid TOML"),
    ],
)
def test_a_wrong_file_is_refused_by_its_name(tmp_path, text, said):
    with pytest.raises(InputError, match=KNOWN) as refused:
        read(tmp_path, text)
    assert said in str(refused.value)


def failing():
    check = Check("clean-shirt", "class", "accuracy", panel=Threshold(0.8))
    return check.judge(Measurement(ACCURACY, 0.7, 1_000, (0.68, 0.72)))


def test_reports_mark_what_is_known_and_the_verdict_stands():
    known = (
        KnownIssue("broken", "Ada", "9999-12-31", check="clean-shirt"),
        KnownIssue("odd", "Bob", "2020-01-01", image=17),
    )
    outcome = outcome_with(EMPTY, verdicts=(failing(),), known=known)
    assert outcome.verdict == "fail"
    assert stress_json(outcome)["known"][0]["owner"] == "Ada"
    assert "known issue until 9999-12-31: broken (Ada)" in html.unescape(str(checks(outcome).body))
    some = overview(mistakes=(Mistake(17, "top", "shirt", 0.9),))
    page = html.unescape(str(confusions(outcome_with(outcome, overview=some)).body))
    assert "known issue, expired on 2020-01-01: odd (Bob)" in page
    assert known_issue_notices(known, outcome.results.verdicts, outcome.run.day) == [
        "known issues among the failing checks: clean-shirt; the verdict counts them",
        "expired known issues: image 17 (2020-01-01, Bob); fix or renew them in known.toml",
    ]
    (said,) = known_issue_notices(
        (replace(known[0], until="2020-01-01"),), outcome.results.verdicts, outcome.run.day
    )
    assert (
        said
        == "expired known issues: clean-shirt (2020-01-01, Ada); fix or renew them in known.toml"
    )
