"""Augmentation must pay: under pose, the candidate must beat the model trained without it."""

from harness.measures import accuracy_gain
from harness.plugin import gate


@gate("gain")
def test_candidate_beats_baseline_under_pose(candidate, baseline, images, evidence, gate):
    predictions = candidate.predict(images, gate.pose)
    verdict = gate.judge(accuracy_gain(predictions, baseline.predict(images, gate.pose)))
    evidence.show(verdict, predictions)
    assert verdict.passed, verdict.explain()
