"""A model that is wrong should at least be unsure."""

from harness.checks import Key, Share
from harness.measures import confident_errors
from harness.plugin import check

CONFIDENCE = Key("confidence", Share, "errors over {:.0%} confidence")


@check("confidence", CONFIDENCE, metric="confident_errors")
def test_confident_errors_stay_rare(candidate, images, evidence, stress_check):
    predictions = candidate.predict(images, stress_check.pose)
    verdict = stress_check.judge(confident_errors(predictions, above=stress_check[CONFIDENCE]))
    evidence.show(verdict, predictions)
    assert verdict.passed, verdict.explain()
