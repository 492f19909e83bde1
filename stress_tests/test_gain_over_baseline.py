"""Augmentation must pay: under pose, the candidate must beat the model trained without it."""

from harness.measures import accuracy_gain
from harness.plugin import check


@check("gain")
def test_candidate_beats_baseline_under_pose(candidate, baseline, images, evidence, stress_check):
    predictions = candidate.predict(images, stress_check.pose)
    verdict = stress_check.judge(
        accuracy_gain(predictions, baseline.predict(images, stress_check.pose))
    )
    evidence.show(verdict, predictions)
    assert verdict.passed, verdict.explain()
