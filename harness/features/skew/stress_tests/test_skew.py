"""A model keeps its predictions when another pipeline serves it than the one that judged it."""

from harness.checks import Key, one_of
from harness.data.skews import SKEWS
from harness.features.skew.measures import (
    served_correct_predictions_lost,
    served_predictions_changed,
)
from harness.features.skew.serving import under_skew
from harness.plugin import check

SKEW = Key("skew", one_of(SKEWS), "served with {}")


@check("skew", SKEW, metric="served_correct_predictions_lost")
def test_few_correct_predictions_are_lost_by_serving(
    candidate, panel_images, evidence, stress_check
):
    skewed = under_skew(candidate, panel_images, stress_check[SKEW])
    measured = served_correct_predictions_lost(
        skewed.served, skewed.reference, through=skewed.words
    )
    verdict = stress_check.judge(measured)
    evidence.show(verdict, skewed.shown)
    assert verdict.passed, verdict.explain()


@check("skew", SKEW, metric="served_predictions_changed")
def test_few_predictions_are_changed_by_serving(candidate, panel_images, evidence, stress_check):
    skewed = under_skew(candidate, panel_images, stress_check[SKEW])
    verdict = stress_check.judge(
        served_predictions_changed(skewed.served, skewed.reference, through=skewed.words)
    )
    evidence.show(verdict, skewed.shown)
    assert verdict.passed, verdict.explain()
