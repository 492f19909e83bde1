"""One verdict from many: what outranks what, and what other tools read of it."""

from dataclasses import replace

import pytest
from outcomes import BROKEN, EMPTY, FAIL, MISSING, PASS, REPORTED, outcome_with, verdict

from harness.checks import Check, Threshold, Verdict
from harness.run.findings import SelfCheck
from harness.run.headline import headline
from harness.run.margins import worst_first
from harness.run.overview import Overview
from harness.run.stress_json import stress_json

OPEN = replace(
    verdict("inconclusive", "open"), check=Check("open", "clean", "accuracy", hand=Threshold(0.8))
)
"""A check with a threshold by hand that its sample does not decide."""


@pytest.mark.parametrize(
    ("changes", "overall", "status"),
    [
        ({"verdicts": (PASS,)}, "pass", 0),
        ({"verdicts": (PASS, REPORTED, MISSING)}, "pass", 0),
        ({"verdicts": (PASS, FAIL)}, "fail", 1),
        ({"verdicts": (PASS,), "failed_tests": ("test_own.py::test_mine",)}, "fail", 1),
        ({"verdicts": (PASS,), "omissions": ("one check did not run",)}, "partial", 0),
        ({"verdicts": (PASS, FAIL), "omissions": ("one check did not run",)}, "partial", 1),
        ({"omissions": ("half",), "failed_tests": ("test_own.py::test_mine",)}, "partial", 1),
        ({"verdicts": (PASS, OPEN)}, "partial", 0),
        ({"verdicts": (PASS, OPEN, FAIL)}, "partial", 1),
        ({"verdicts": (OPEN, REPORTED)}, "partial", 4),
        ({"verdicts": (PASS,), "errors": ("NaN",)}, "error", 4),
        ({"verdicts": (PASS, FAIL), "errors": ("NaN",)}, "error", 4),
        (
            {
                "verdicts": (FAIL,),
                "omissions": ("half",),
                "errors": ("NaN",),
                "failed_tests": ("t",),
            },
            "error",
            4,
        ),
        ({"verdicts": (PASS, BROKEN)}, "error", 4),
    ],
    ids=[
        "all-hold",
        "reported-and-absent-are-no-failures",
        "one-fails",
        "a-test-without-a-gate-fails",
        "partial",
        "partial-with-a-failing-gate",
        "partial-with-a-failing-test",
        "a-sample-leaves-a-check-open",
        "a-sample-leaves-a-check-open-and-another-fails",
        "a-sample-leaves-the-only-check-open",
        "error",
        "error-over-fail",
        "error-over-all",
        "a-verdict-that-is-an-error",
    ],
)
def test_the_verdict_and_exit_status(changes, overall, status):
    outcome = outcome_with(EMPTY, **changes)
    assert (outcome.verdict, outcome.exit_status) == (overall, status)
    assert stress_json(outcome)["verdict"] == overall
    assert headline(outcome).startswith(overall.upper() + ": ")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"verdicts": (PASS, REPORTED, MISSING)}, "PASS: 1 of 1 checks pass"),
        (
            {
                "verdicts": (
                    PASS,
                    verdict("fail", "cw", family="rotation"),
                    verdict("fail", "up", family="shift"),
                    verdict("fail", "ccw", family="rotation"),
                ),
                "failed_tests": ("test_own.py::test_mine",),
            },
            "FAIL: 3 of 4 checks and 1 other test fail; "
            "worse: rotated images, translated images, test_own.py::test_mine",
        ),
        (
            {"verdicts": (PASS, FAIL), "omissions": ("half",)},
            "PARTIAL: 1 of 2 checks fail of those that ran; no verdict on the whole",
        ),
        (
            {"verdicts": (PASS, OPEN)},
            "PARTIAL: 1 of 2 checks pass of those that ran; undecided: open; no verdict on the "
            "whole",
        ),
        ({"verdicts": (FAIL,), "errors": ("NaN",)}, "ERROR: the run is inconclusive"),
    ],
    ids=["pass", "fail", "partial", "open", "error"],
)
def test_the_headline_names_what_got_worse(changes, sentence):
    assert headline(outcome_with(EMPTY, **changes)) == sentence


def test_failed_are_the_checks_that_do_not_hold():
    assert outcome_with(EMPTY, verdicts=(PASS, FAIL, REPORTED, BROKEN)).results.failed == (FAIL,)


def test_the_worst_come_first():
    near = verdict("fail", "near", value=0.84, std=0.01)
    far = verdict("fail", "far", value=0.80, std=0.01)
    noisy = verdict("fail", "noisy", value=0.60, std=0.5)
    given = (MISSING, REPORTED, PASS, near, noisy, BROKEN, far)
    assert [item.check.id for item in worst_first(given)] == [
        "broken",
        "far",
        "near",
        "noisy",
        "good",
        "shown",
        "absent",
    ]


@pytest.mark.parametrize("std", [None, 0.0], ids=["no-spread", "spread-of-zero"])
def test_failures_are_ordered_without_a_spread_too(std):
    near, far = (
        verdict("fail", "near", value=0.84, std=std),
        verdict("fail", "far", value=0.8, std=std),
    )
    assert worst_first((near, far)) == [far, near]


def test_equals_keep_their_order():
    rows = tuple(verdict("pass", name) for name in ("c", "a", "b"))
    assert worst_first(rows) == list(rows)


def test_a_gate_that_was_not_measured_has_its_place():
    unjudged = Check("clean", "clean", "accuracy").unjudged("error", "it raised")
    assert worst_first((FAIL, unjudged)) == [unjudged, FAIL]


def test_the_json_says_what_went_wrong():
    outcome = outcome_with(EMPTY, errors=("NaN",), omissions=("half",))
    assert (stress_json(outcome)["errors"], stress_json(outcome)["omissions"]) == (
        ["NaN"],
        ["half"],
    )
    assert stress_json(outcome_with(EMPTY, failed_tests=("test_own.py::test_mine",)))[
        "failed_tests"
    ] == ["test_own.py::test_mine"]


@pytest.mark.parametrize(
    ("statuses", "overall"),
    [
        (("pass", "not_applicable"), "pass"),
        (("not_applicable", "fail", "pass"), "error"),
        (("pass", "fail"), "error"),
    ],
)
def test_a_failed_self_check_is_an_error_unless_it_does_not_apply(statuses, overall):
    checks = tuple(
        SelfCheck(f"check-{number}", status, "so it is") for number, status in enumerate(statuses)
    )
    outcome = outcome_with(EMPTY, verdicts=(PASS,), self_checks=checks)
    assert (outcome.verdict, outcome.exit_status) == (overall, 4 if overall == "error" else 0)
    assert [check["status"] for check in stress_json(outcome)["self_checks"]] == list(statuses)


def test_the_json_holds_the_models_side_by_side():
    shown = Overview("zoo", 300, 100, ("ant",), ())
    assert stress_json(outcome_with(EMPTY, overview=shown))["overview"]["n"] == 300
    assert stress_json(EMPTY)["overview"] is None


def test_failures_of_different_units_are_ordered_by_their_margins():
    """A threshold without a spread has one of 1%.

    6% of a share is farther than 5% of a count, and that than 4%.
    """
    share, nearer = (
        verdict("fail", "share", value=0.47, threshold=0.5),
        verdict("fail", "nearer", value=0.48, threshold=0.5),
    )
    count = verdict("fail", "count", value=95, threshold=100)
    assert worst_first((nearer, count, share)) == [share, count, nearer]
    none = verdict("fail", "none", value=-1, threshold=0)
    assert worst_first((share, none)) == [none, share], (
        "of a threshold of 0 any miss is infinitely far"
    )


@pytest.mark.parametrize(
    ("models", "facts", "provisional"),
    [
        (1, {}, True),
        (2, {}, True),
        (3, {}, False),
        (1, {"hand": Threshold(0.8, reason="agreed")}, False),
        (1, {"status": "not_applicable"}, False),
    ],
)
def test_thresholds_of_fewer_than_three_models_that_judge_are_provisional(
    models, facts, provisional
):
    about = Check(
        "clean",
        "clean",
        "accuracy",
        panel=Threshold(0.9, reference_models=models),
        hand=facts.get("hand"),
    )
    judged = Verdict(about, facts.get("status", "pass"), "accuracy", value=0.95, threshold=0.9)
    found = outcome_with(EMPTY, verdicts=(judged,))
    assert found.results.provisional is stress_json(found)["provisional"] is provisional
    assert ("(provisional)" in headline(found)) is provisional
    assert found.verdict == "pass" or "status" in facts, "other tools read the verdict"
