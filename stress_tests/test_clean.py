"""On images as they are, the model must be right often enough: over all, and on every class."""

from harness.measures import accuracy
from harness.plugin import gate


@gate("clean")
def test_clean_accuracy(candidate, images, evidence, gate):
    predictions = candidate.predict(images)
    verdict = gate.judge(accuracy(predictions))
    evidence.show(verdict, predictions)
    assert verdict.passed, verdict.explain()


@gate("class")
def test_class_accuracy(candidate, images, evidence, gate):
    predictions = candidate.predict(images)
    verdict = gate.judge(accuracy(predictions, of_class=gate.class_name))
    evidence.show(verdict, predictions)
    assert verdict.passed, verdict.explain()
