"""The model keeps the correct predictions of the incumbent."""

from harness.measures import accuracy_change
from harness.plugin import check


@check("regression")
def test_answers_are_not_lost(candidate, incumbent, images, evidence, stress_check):
    predictions = candidate.predict(images, stress_check.pose)
    verdict = stress_check.judge(
        accuracy_change(predictions, incumbent.predict(images, stress_check.pose))
    )
    evidence.show(verdict, predictions)
    assert verdict.passed, verdict.explain()
