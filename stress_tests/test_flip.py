"""A garment seen in a mirror is the same garment."""

from harness.measures import accuracy
from harness.perturb import HorizontalFlip
from harness.plugin import gate


@gate("flip")
def test_accuracy_survives_mirroring(candidate, images, evidence, gate):
    predictions = candidate.predict(images, HorizontalFlip())
    verdict = gate.judge(accuracy(predictions, before=candidate.predict(images)))
    evidence.show(verdict, predictions)
    assert verdict.passed, verdict.explain()
