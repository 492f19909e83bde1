"""A verdict by the bounds of one or two healthy networks says that it is provisional."""

from dataclasses import replace

import pytest
from outcomes import EMPTY

from harness.gates import Gate
from harness.gates.rows import Bound
from harness.gates.verdicts import Verdict


def outcome(retrains, *, hand=None, status="pass"):
    gate = Gate("clean", "clean", "accuracy", panel=Bound(0.9, retrains=retrains), hand=hand)
    return replace(EMPTY, verdicts=(Verdict(gate, status, "accuracy", value=0.95, limit=0.9),))


@pytest.mark.parametrize(("retrains", "provisional"), [(1, True), (2, True), (3, False), (20, False)])
def test_bounds_of_fewer_than_three_networks_are_provisional(retrains, provisional):
    found = outcome(retrains)
    assert found.as_json()["provisional"] is provisional
    assert ("(provisional)" in found.headline) is provisional
    assert found.verdict == "pass", "other tools read the verdict"


def test_bounds_that_were_not_held_against_the_candidate_make_nothing_provisional():
    assert not outcome(1, hand=Bound(0.8, reason="agreed")).provisional
    assert not outcome(1, status="not_applicable").provisional
