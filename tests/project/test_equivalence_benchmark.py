"""The benchmark of equivalence: its results reach what is wanted."""

import pytest

from benchmarks.equivalence import conversions
from benchmarks.equivalence.__main__ import NOT_APPLICABLE, goals, results
from benchmarks.equivalence.artifacts import HELD_OUT, LOSSLESS, SHOWN
from benchmarks.runner import missed, read


@pytest.fixture(scope="module")
def found():
    return results()


def test_every_artifact_of_the_shipped_network_is_judged(found):
    judged = [each for each in found if each.network == "shipped"]
    assert {each.artifact for each in judged} == {*SHOWN, *HELD_OUT}
    assert sum(each.outcome != NOT_APPLICABLE for each in judged) >= 30


def test_no_lossless_conversion_of_fifty_is_different(found):
    lossless = [each for each in found if each.artifact in LOSSLESS]
    assert len(lossless) >= 50
    assert {each.outcome for each in lossless} == {"equal"}


def test_outcomes_are_what_is_wanted(found):
    assert missed(goals(found)) == []


@pytest.mark.parametrize("setting", conversions.SETTINGS)
def test_good_and_bad_calibration_are_told_apart(setting):
    found = read(conversions.RESULTS)[setting]
    limits = conversions.thresholds(
        values for name, values in found.items() if name.startswith("seed")
    )
    assert conversions.failed(found[conversions.WELL], limits) == []
    assert conversions.failed(found["noise"], limits)
    assert conversions.failed(found["dimmed images"], limits)
