"""The headline: clean accuracy beside the incumbent's, the top regression, and the end of a comparison."""

from dataclasses import replace

import pytest
from outcomes import EMPTY, FAIL, PASS
from overviews import model, overview, rate

from harness.checks import Check, Threshold, Verdict
from harness.measures import Unit
from harness.report.diagnosis import conclusion, diagnose, top_regression
from harness.report.html import comparison_page, page_of
from harness.report.text import markdown

INCUMBENT = model("incumbent", roles=("incumbent",), confusion=((950, 40, 10), (60, 930, 10), (5, 5, 990)))
WORSE = model(right=0.88, confusion=((880, 115, 5), (70, 920, 10), (5, 70, 925)))
FLIPS = {"new_failures": [1, 2, 3], "fixed_failures": [4], "mcnemar_p": 0.00001, "by_class": {}, "by_pair": {}}


def test_the_headline_has_clean_accuracy_and_the_top_regression():
    outcome = replace(EMPTY, verdicts=(PASS, FAIL), overview=overview(WORSE, INCUMBENT, n=60))
    first, second, *_ = diagnose(outcome).facts
    assert first == "Clean accuracy 88.0%, incumbent 90.0% (−2.0 points)."
    assert second == "top −7.0 and shoe −6.5 points, mostly predicted as shirt."
    page, text = page_of(outcome), markdown(outcome)
    for line in (first, second):
        assert line in page
        assert line in text.splitlines()


def test_classes_with_other_targets_have_each_its_own():
    mine = model(confusion=((880, 115, 5), (130, 860, 10), (5, 5, 990)))
    said = "top −7.0 points, mostly predicted as shirt, and shirt −7.0 points, mostly predicted as top"
    assert top_regression(overview(mine, INCUMBENT)) == said


def test_a_class_within_chance_is_not_named():
    mine = model(confusion=((940, 50, 10), (60, 930, 10), (5, 5, 990)))
    assert top_regression(overview(mine, INCUMBENT)) == ""


def test_accuracy_under_pose_is_named_if_no_class_is():
    other = replace(INCUMBENT, name="incumbent")
    mine = model(confusion=INCUMBENT.confusion, corners=rate(0.6))
    said = top_regression(overview(mine, other))
    assert said.endswith("accuracy is 60.0%, incumbent 80.0% (−20.0 points)")


@pytest.mark.parametrize("others", [(model("baseline", right=0.99),), ()], ids=["baseline", "alone"])
def test_a_baseline_of_another_recipe_shows_no_regression(others):
    outcome = replace(EMPTY, verdicts=(PASS,), overview=overview(WORSE, *others))
    assert len(diagnose(outcome).facts) == 1


def test_without_an_incumbent_accuracy_stands_beside_reference_models():
    check = Check("clean", "clean", "accuracy", panel=Threshold(0.91, mean=0.926, std=0.002, reference_models=20))
    verdict = Verdict(check, "pass", "accuracy", value=0.88, threshold=0.91, n=300, unit=Unit.SHARE)
    outcome = replace(EMPTY, verdicts=(verdict,), overview=overview(WORSE, model("baseline", right=0.99)))
    assert diagnose(outcome).facts == ("Clean accuracy 88.0%, reference models 92.6% ± 0.2.",)
    shipped = replace(outcome, overview=overview(WORSE, INCUMBENT))
    assert diagnose(shipped).facts[0] == "Clean accuracy 88.0%, incumbent 90.0% (−2.0 points)."


def test_a_summary_has_the_comparison_under_pass_too():
    text = markdown(replace(EMPTY, verdicts=(PASS,), overview=overview(model(), INCUMBENT)))
    assert "Report: [stress.html](stress.html)" in text
    assert "|  | candidate | incumbent |" in text
    assert "| clean accuracy | 90.0% (n=300) | 90.0% (n=300) |" in text


def test_a_comparison_concludes():
    found = overview(WORSE, INCUMBENT, n=60)
    said = "3 new and 1 fixed errors, p < 0.0001; top −7.0 and shoe −6.5 points, mostly predicted as shirt."
    assert conclusion(found, FLIPS) == said
    assert said.replace("<", "&lt;") in comparison_page(found, FLIPS, {"data": "shop"}, {})
