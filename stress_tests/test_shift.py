"""Moving an object by a few pixels must not change what it is."""

from harness.measures import accuracy
from harness.plugin import gate


@gate("shift")
def test_accuracy_survives_shift(candidate, images, evidence, gate):
    predictions = candidate.predict(images, gate.pose)
    verdict = gate.judge(accuracy(predictions, clean=candidate.predict(images)))
    evidence.show(verdict, predictions)
    assert verdict.passed, verdict.explain()
