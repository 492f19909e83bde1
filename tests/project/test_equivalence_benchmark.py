"""The benchmark of equivalence: its page is made of its results, and these reach what is wanted."""

import pytest

from benchmarks.equivalence import conversions
from benchmarks.equivalence.__main__ import HERE, read
from benchmarks.equivalence.artifacts import HELD_OUT, LOSSLESS, SHOWN
from benchmarks.equivalence.judgement import NOT_APPLICABLE
from benchmarks.equivalence.report import misses, write_page


@pytest.fixture(scope="module")
def found():
    return read()


def test_the_page_is_made_of_the_results(found, tmp_path):
    page = tmp_path / "README.md"
    page.write_bytes((HERE / "README.md").read_bytes())
    write_page(page, found)
    assert page.read_text() == (HERE / "README.md").read_text()


def test_every_artifact_of_the_shipped_network_is_judged(found):
    judged = [each for each in found if each.network == "shipped"]
    assert {each.artifact for each in judged} == {*SHOWN, *HELD_OUT}
    assert sum(each.outcome != NOT_APPLICABLE for each in judged) >= 30


def test_no_lossless_conversion_of_fifty_is_different(found):
    lossless = [each for each in found if each.artifact in LOSSLESS]
    assert len(lossless) >= 50
    assert {each.outcome for each in lossless} == {"equal"}


def test_outcomes_are_what_is_wanted(found):
    assert misses(found) == []


def test_the_page_on_conversions_is_made_of_their_results(tmp_path):
    page = tmp_path / "README.md"
    page.write_bytes((HERE / "README.md").read_bytes())
    conversions.write_page(page, conversions.read())
    assert page.read_text() == (HERE / "README.md").read_text()


@pytest.mark.parametrize("setting", conversions.SETTINGS)
def test_good_and_bad_calibration_are_told_apart(setting):
    found = conversions.read()[setting]
    limits = conversions.thresholds(values for name, values in found.items() if name.startswith("seed"))
    assert conversions.failed(found[conversions.WELL], limits) == []
    assert conversions.failed(found["noise"], limits)
    assert conversions.failed(found["dimmed images"], limits)
