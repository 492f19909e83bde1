"""A verdict by the thresholds of one or two reference models says that it is provisional."""

from dataclasses import replace

import pytest
from outcomes import EMPTY

from harness.checks import Check, Threshold, Verdict


def outcome(reference_models, *, hand=None, status="pass"):
    check = Check("clean", "clean", "accuracy", panel=Threshold(0.9, reference_models=reference_models), hand=hand)
    return replace(EMPTY, verdicts=(Verdict(check, status, "accuracy", value=0.95, threshold=0.9),))


@pytest.mark.parametrize(("reference_models", "provisional"), [(1, True), (2, True), (3, False), (20, False)])
def test_thresholds_of_fewer_than_three_networks_are_provisional(reference_models, provisional):
    found = outcome(reference_models)
    assert found.as_json()["provisional"] is provisional
    assert ("(provisional)" in found.headline) is provisional
    assert found.verdict == "pass", "other tools read the verdict"


def test_thresholds_that_were_not_compared_make_nothing_provisional():
    assert not outcome(1, hand=Threshold(0.8, reason="agreed")).provisional
    assert not outcome(1, status="not_applicable").provisional
