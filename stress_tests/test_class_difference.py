"""The model predicts a class as well as the others.

A class that falls shows before its accuracy does.
"""

from harness.measures import class_difference
from harness.plugin import check


@check("class-difference", metric="class_difference")
def test_a_class_is_predicted_as_well_as_the_others(candidate, images, evidence, stress_check):
    predictions = candidate.predict(images)
    verdict = stress_check.judge(class_difference(predictions, of_class=stress_check.class_name))
    evidence.show(verdict, predictions)
    assert verdict.passed, verdict.explain()
