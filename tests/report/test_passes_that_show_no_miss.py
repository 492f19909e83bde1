"""A check that passes beyond its threshold says why, and a gate that judges little does not call a model fit."""

from dataclasses import replace
from pathlib import Path

import pytest
from outcomes import EMPTY, FAIL, PASS, REPORTED, verdict

from harness.report.diagnosis import diagnose
from harness.report.html import page_of
from harness.report.text import markdown, summary_lines
from harness.report.wording import measured_and_required

BY_CHANCE = verdict("pass", "regression-clean", family="regression", value=-0.011, threshold=-0.01)
BY_CHANCE = replace(
    BY_CHANCE,
    check=replace(BY_CHANCE.check, significance=0.001),
    interval=(-0.03, 0.008),
    flips={"net": -0.011, "interval": (-0.03, 0.008), "mcnemar_p": 0.21, "by_class": {}, "by_pair": {}}
    | {"new_failures": [1, 2], "fixed_failures": [3]},
)
ON_A_SAMPLE = verdict("pass", "clean", value=0.84, threshold=0.85)


def test_beyond_its_threshold_a_pass_says_what_excuses_it():
    assert BY_CHANCE.excused == "not significant (p = 0.21, fails below 0.001)"
    assert ON_A_SAMPLE.excused == "the 95% interval reaches the threshold"
    assert measured_and_required(BY_CHANCE)[1].endswith(", or p ≥ 0.001")


@pytest.mark.parametrize("one", [PASS, FAIL, REPORTED], ids=["pass", "fail", "informational"])
def test_nothing_excuses_what_is_not_beyond_a_threshold_that_passes(one):
    assert not one.excused


def test_the_page_never_shows_a_bare_miss_of_a_check_that_passes():
    page = page_of(replace(EMPTY, verdicts=(PASS, BY_CHANCE)))
    assert 'id="report-worse"' not in page
    checks = page[page.index('id="report-checks"') :]
    assert "or p ≥ 0.001" in checks
    assert "not significant (p = 0.21, fails below 0.001)" in checks


@pytest.mark.parametrize(("informational", "fit"), [(1, True), (2, True), (3, False)])
def test_a_gate_that_judges_little_calls_no_model_fit(informational, fit):
    shown = tuple(replace(REPORTED, check=replace(REPORTED.check, id=f"shown-{at}")) for at in range(informational))
    outcome = replace(EMPTY, verdicts=(PASS, BY_CHANCE, *shown))
    said = diagnose(outcome).sentence
    assert ("fit to ship" in said) is fit
    if not fit:
        assert said == "c.safetensors passes all 2 checks that have a threshold; 3 are informational."
        assert outcome.headline == "PASS: 2 of 2 checks pass; 3 informational"
        assert "PASS: 2 of 2 checks pass; 3 informational" in markdown(outcome)
        assert any("3 informational" in line for line in summary_lines(outcome, Path("reports")))
