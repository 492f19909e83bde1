"""Weights have the statistics of the reference models, which another recipe does not leave."""

from harness.features.fingerprint.distance import find_weight_distance, weight_distance
from harness.plugin import check


@check("fingerprint", metric="weight_distance")
def test_weights_are_those_of_the_recipe(
    candidate, images, panel_predictions, evidence, stress_check
):
    distance = find_weight_distance(candidate, images, panel_predictions)
    verdict = stress_check.judge(weight_distance(distance, images))
    evidence.show(verdict)
    assert verdict.passed, verdict.explain()
