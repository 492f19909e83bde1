"""What the last accepted checkpoint got right is lost no more often than by any healthy retrain."""

from harness.gates import Key, one_of
from harness.measures import negative_flips
from harness.plugin import gate

AMONG = Key(one_of(("consensus",)), "images that every healthy retrain gets right")


@gate("flips", among=AMONG)
def test_few_right_answers_are_lost(candidate, paired_incumbent, images, evidence, gate):
    predictions = candidate.predict(images)
    right = paired_incumbent.right(predictions)
    among = paired_incumbent.consensus(predictions, gate.among)
    verdict = gate.judge(negative_flips(predictions, right, of_class=gate.class_name, among=among))
    evidence.show(verdict, predictions)
    assert verdict.passed, verdict.explain()
