"""A garment seen in a mirror is the same garment."""

from harness.inference import along
from harness.measures import accuracy, invariance
from harness.perturb import HorizontalFlip
from harness.plugin import gate


@gate("flip", metric="accuracy")
def test_accuracy_survives_mirroring(candidate, images, evidence, gate):
    predictions = candidate.predict(images, HorizontalFlip())
    verdict = gate.judge(accuracy(predictions, clean=candidate.predict(images)))
    evidence.show(verdict, predictions)
    assert verdict.passed, verdict.explain()


@gate("flip", metric="invariance")
def test_answers_stay_in_the_mirror(candidate, images, evidence, gate):
    seen, mirrored = along(candidate, images, HorizontalFlip())
    verdict = gate.judge(invariance(seen, mirrored))
    evidence.show(verdict, mirrored)
    assert verdict.passed, verdict.explain()
