"""The table of all checks: what is in it, what it can be filtered by, and the commands and words that it leads to."""

import html
import re
from dataclasses import replace
from pathlib import Path

import pytest
from outcomes import EMPTY

from harness.checks import Check, Threshold
from harness.checks.families import FAMILIES
from harness.measures import Measurement
from harness.measures.accuracy import ACCURACY, PAIR_FAILURES
from harness.report.html import page_of
from harness.report.sections import checks
from harness.report.wording import terms
from harness.run.request import rerun_command

DOCS = Path(__file__).parents[2] / "docs"
TURNED = Check("turned", "rotation", "accuracy", panel=Threshold(0.851, "", 0.868, 0.006, 20, 3.1, 0.0123))
PAIR = Check("pair", "pairs", "pair_failures", "at_most", keys={"pair": ("Shirt", "Coat")}, hand=Threshold(30))


def share(check: Check, value: float, **facts):
    return check.judge(Measurement(ACCURACY, value, 10_000, (value - 0.01, value + 0.01), **facts))


def count(check: Check, value: int):
    return check.judge(Measurement(PAIR_FAILURES, value, 10_000, (value - 9.0, value + 9.0)))


VERDICTS = (
    share(replace(TURNED, id="good"), 0.9),
    share(
        replace(TURNED, id="reported", informational="they differ"), 0.5, detail="top confusion Shirt→Coat 14% of 1,000"
    ),
    share(TURNED, 0.812),
    share(replace(TURNED, id="hair", panel=Threshold(0.8121)), 0.812),
    share(Check("boot", "class", "accuracy", class_name="Boot", hand=Threshold(0.5)), 0.9),
    count(PAIR, 17),
    Check("flip", "flip", "accuracy").unjudged("not_applicable", "letters"),
)


def shown(*verdicts, **facts) -> str:
    return html.unescape(str(checks(replace(EMPTY, verdicts=verdicts, **facts)).body))


def rows(body: str) -> dict[str, list[str]]:
    """The cells of each row but the last, as text, by the row's id."""
    found = re.findall(r'<tr id="([^"]*)"[^>]*>(.*?)</tr>', body, re.DOTALL)
    return {
        name: [re.sub("<[^>]*>", "", cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)][:-1]
        for name, row in found
    }


@pytest.mark.parametrize(
    ("direction", "value", "expected"),
    [
        ("at_most", 49, ["49 images", "≤ 41 images", "8 images of 10,000"]),
        ("at_most", 42, ["42 images", "≤ 41 images", "1 image of 10,000"]),
        ("at_most", 41, ["41 images", "≤ 41 images", ""]),
    ],
)
def test_a_threshold_of_counts_is_a_whole_number_that_holds(direction, value, expected):
    check = Check("pair", "pairs", "pair_failures", direction, panel=Threshold(41.9, n=10_000))
    verdict = count(check, value)
    assert rows(shown(verdict, verdict))["pair"][2:5] == expected
    assert f"{value} {'>' if value > 41 else '<='} threshold 41 " in verdict.explain()
    assert verdict.threshold == 41.9, "it is judged by the calibrated number"


def test_there_is_one_table_of_all_checks_the_worst_first():
    body = shown(*VERDICTS)
    assert body.count("<table") == 1
    assert list(rows(body)) == ["turned", "hair", "good", "boot", "pair", "reported", "flip"]


def test_numbers_are_those_of_the_headline():
    cells = rows(shown(*VERDICTS))
    assert cells["turned"][1:8] == ["✗ fails", "81.2%", "≥ 85.1%", "3.9 points", "86.8% ± 0.6", "1.2 points", "10,000"]
    assert cells["hair"][2:5] == ["81.20%", "≥ 81.21%", "1 image of 10,000"]
    assert cells["pair"][1:8] == ["✓ passes", "17 images", "≤ 30 images", "", "", "", "10,000"]
    assert cells["reported"][1:4] == ["informational", "50.0%", ""]
    assert cells["reported"][8] == "top confusion Shirt→Coat 14% of 1,000; they differ"
    assert cells["flip"][1:4] == ["not applicable", "", ""]
    assert "Single classes: Boot" in cells["boot"][0]


def test_it_can_be_filtered_by_the_statuses_that_there_are():
    body = shown(*VERDICTS)
    statuses = [re.sub("<[^>]*>", "", label) for label in re.findall("<label>(<input type=.checkbox.*?)</label>", body)]
    assert [each.strip() for each in statuses] == [
        "✗ fails (2)",
        "✓ passes (3)",
        "informational (1)",
        "not applicable (1)",
    ]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("pytest", "pytest -k '[turned]' --stress-reports reports/turned"),
        ("pytest -q --stress-reports out -x", "pytest -q -x -k '[turned]' --stress-reports out/turned"),
        ("pytest --stress-reports=out/ -n 2", "pytest -n 2 -k '[turned]' --stress-reports out/turned"),
        ("pytest -k 'clean or flip' gate", "pytest gate -k '[turned]' --stress-reports reports/turned"),
        ("pytest -kclean --stress-reports a --stress-reports=b", "pytest -k '[turned]' --stress-reports b/turned"),
        ("pytest --candidate 'a b.pt'", "pytest --candidate 'a b.pt' -k '[turned]' --stress-reports reports/turned"),
    ],
)
def test_the_command_of_a_gate_says_nothing_twice(given, expected):
    body = shown(VERDICTS[2], command=given)
    assert f'data-copy="{expected}"' in body
    assert 'data-copy="#turned"' in body


def test_a_command_selects_its_gate_alone(pytester):
    pytester.makepyfile(
        "import pytest\n"
        "@pytest.mark.parametrize('stress_check', ['flip', 'flips', 'flip-invariance'])\n"
        "def test_flip(stress_check): ...\n"
    )
    *_, selected, _reports, _folder = rerun_command(["pytest"], "flip").split()
    assert selected == "'[flip]'"
    pytester.runpytest_inprocess("-k", selected.strip("'")).assert_outcomes(passed=1, deselected=2)


def test_every_shipped_behaviour_is_explained_as_its_page_is():
    for name, family in FAMILIES.items():
        assert f"`{name}`" in (DOCS / f"{family.page}.md").read_text("utf-8").split("**What.**")[0]


def test_behaviours_and_titles_lead_to_what_they_mean_within_the_page():
    page = page_of(replace(EMPTY, verdicts=VERDICTS))
    ids = re.findall(r'id="([^"]*)"', page)
    links = set(re.findall(r'href="#((?:word|about)-[^"]*)"', page))
    assert (
        {"about-rotation", "about-pairs", "word-threshold", "word-reference-models", "word-minimum-detectable-drop"}
        <= links
        <= set(ids)
    )
    assert [ids.count(f"word-{name}") for name in terms()] == [1] * len(terms())
    assert "http" not in page
    own = replace(TURNED, id="own", family="own")
    assert "about-own" not in page_of(replace(EMPTY, verdicts=(share(own, 0.1),)))
