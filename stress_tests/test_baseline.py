"""The baseline must be what it is taken for, or comparing with it means nothing."""

from harness.measures import accuracy
from harness.plugin import gate


@gate("baseline")
def test_baseline_accuracy(baseline, images, evidence, gate):
    verdict = gate.judge(accuracy(baseline.predict(images, gate.pose)))
    evidence.show(verdict)
    assert verdict.passed, verdict.explain()
