"""The model loses no more correct predictions of the incumbent than a reference model would."""

from harness.checks import Key, one_of
from harness.measures import negative_flips
from harness.plugin import check

AMONG = Key("among", one_of(("consensus",)), "images that every reference model predicts correctly")


@check("flips", AMONG)
def test_few_right_answers_are_lost(candidate, paired_incumbent, images, evidence, stress_check):
    predictions = candidate.predict(images)
    right = paired_incumbent.right(predictions)
    among = paired_incumbent.consensus(predictions, stress_check[AMONG])
    correction = paired_incumbent.correction(stress_check[AMONG])
    flips = negative_flips(
        predictions, right, of_class=stress_check.class_name, among=among, correction=correction
    )
    verdict = stress_check.judge(flips)
    evidence.show(verdict, predictions)
    assert verdict.passed, verdict.explain()
