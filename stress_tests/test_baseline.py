"""The baseline must be as good as expected, or comparing with it means nothing."""

from harness.measures import accuracy
from harness.plugin import check


@check("baseline")
def test_baseline_accuracy(baseline, images, evidence, stress_check):
    verdict = stress_check.judge(accuracy(baseline.predict(images, stress_check.pose)))
    evidence.show(verdict)
    assert verdict.passed, verdict.explain()
