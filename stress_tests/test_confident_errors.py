"""A model that is wrong should at least be unsure."""

from harness.gates import Key, Share
from harness.measures import confident_errors
from harness.plugin import gate

CONFIDENCE = Key(Share, "errors over {:.0%} confidence")


@gate("confidence", metric="confident_errors", confidence=CONFIDENCE)
def test_confident_errors_stay_rare(candidate, images, evidence, gate):
    predictions = candidate.predict(images, gate.pose)
    verdict = gate.judge(confident_errors(predictions, above=gate.confidence))
    evidence.show(verdict, predictions)
    assert verdict.passed, verdict.explain()
