"""On clean images, the model must be accurate enough: over all, and on every class."""

from harness.measures import accuracy
from harness.plugin import check


@check("clean")
def test_clean_accuracy(candidate, images, evidence, stress_check):
    predictions = candidate.predict(images)
    verdict = stress_check.judge(accuracy(predictions))
    evidence.show(verdict, predictions)
    assert verdict.passed, verdict.explain()


@check("class")
def test_class_accuracy(candidate, images, evidence, stress_check):
    predictions = candidate.predict(images)
    verdict = stress_check.judge(accuracy(predictions, of_class=stress_check.class_name))
    evidence.show(verdict, predictions)
    assert verdict.passed, verdict.explain()
