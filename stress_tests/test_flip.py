"""A garment seen in a mirror is the same garment."""

from harness.inference import along
from harness.measures import accuracy, invariance
from harness.perturb import HorizontalFlip
from harness.plugin import check


@check("flip", metric="accuracy")
def test_accuracy_survives_mirroring(candidate, images, evidence, stress_check):
    predictions = candidate.predict(images, HorizontalFlip())
    verdict = stress_check.judge(accuracy(predictions, clean=candidate.predict(images)))
    evidence.show(verdict, predictions)
    assert verdict.passed, verdict.explain()


@check("flip", metric="invariance")
def test_answers_stay_in_the_mirror(candidate, images, evidence, stress_check):
    seen, mirrored = along(candidate, images, HorizontalFlip())
    verdict = stress_check.judge(invariance(seen, mirrored))
    evidence.show(verdict, mirrored)
    assert verdict.passed, verdict.explain()
