"""What the last accepted checkpoint got right must not be lost."""

from harness.measures import accuracy_change
from harness.plugin import gate


@gate("regression")
def test_answers_are_not_lost(candidate, incumbent, images, evidence, gate):
    predictions = candidate.predict(images, gate.pose)
    verdict = gate.judge(accuracy_change(predictions, incumbent.predict(images, gate.pose)))
    evidence.show(verdict, predictions)
    assert verdict.passed, verdict.explain()
