"""On images without labels, the candidate predicts as reference models and incumbent do.

The reference models are those that are unanimous.
"""

from harness.checks import Key, one_of
from harness.features.unlabeled.measures import churn, unanimous_disagreements
from harness.plugin import check

PART = Key("part", one_of(("class", "group")), "of the worst {}")


@check("unlabeled", PART, metric="unanimous_disagreements")
def test_few_disagreements_with_the_unanimous_models(
    candidate, unlabeled_images, evidence, stress_check
):
    predictions = candidate.predict(unlabeled_images)
    verdict = stress_check.judge(unanimous_disagreements(predictions, part=stress_check[PART]))
    evidence.show(verdict)
    assert verdict.passed, verdict.explain()


@check("unlabeled", PART, metric="churn")
def test_few_predictions_other_than_the_incumbents(
    candidate, incumbent, unlabeled_images, evidence, stress_check
):
    predictions, before = (model.predict(unlabeled_images) for model in (candidate, incumbent))
    verdict = stress_check.judge(churn(predictions, before, part=stress_check[PART]))
    evidence.show(verdict)
    assert verdict.passed, verdict.explain()
