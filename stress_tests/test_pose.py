"""Rotation and shift at once, to the corners of the range, must not change predictions."""

from harness.measures import accuracy
from harness.plugin import check


@check("pose")
def test_accuracy_survives_combined_poses(candidate, images, evidence, stress_check):
    predictions = candidate.predict(images, stress_check.pose)
    verdict = stress_check.judge(accuracy(predictions, clean=candidate.predict(images)))
    evidence.show(verdict, predictions)
    assert verdict.passed, verdict.explain()
