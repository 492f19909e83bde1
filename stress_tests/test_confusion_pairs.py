"""Classes that look alike must not be taken for each other more often than a healthy model does."""

from harness.gates import Key
from harness.measures import pair_failures
from harness.plugin import gate

PAIR = Key(tuple[str, str], "{0[0]} and {0[1]} taken for each other")


@gate("pairs", pair=PAIR)
def test_confusions_stay_rare(candidate, images, evidence, gate):
    predictions = candidate.predict(images, gate.pose)
    verdict = gate.judge(pair_failures(predictions, pair=gate.pair))
    evidence.show(verdict, predictions)
    assert verdict.passed, verdict.explain()
