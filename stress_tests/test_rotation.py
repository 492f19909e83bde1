"""Turning an object a little must not change what it is."""

from harness.measures import accuracy
from harness.plugin import gate


@gate("rotation")
def test_accuracy_survives_rotation(candidate, images, evidence, gate):
    predictions = candidate.predict(images, gate.pose)
    verdict = gate.judge(accuracy(predictions, clean=candidate.predict(images)))
    evidence.show(verdict, predictions)
    assert verdict.passed, verdict.explain()
