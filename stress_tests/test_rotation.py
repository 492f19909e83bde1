"""Turning an object a little must not change what it is."""

from harness.measures import accuracy
from harness.plugin import check


@check("rotation")
def test_accuracy_survives_rotation(candidate, images, evidence, stress_check):
    predictions = candidate.predict(images, stress_check.pose)
    verdict = stress_check.judge(accuracy(predictions, clean=candidate.predict(images)))
    evidence.show(verdict, predictions)
    assert verdict.passed, verdict.explain()
