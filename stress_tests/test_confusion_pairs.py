"""A model must not confuse classes that look alike more often than a reference model does."""

from harness.checks import Key
from harness.measures import pair_failures
from harness.plugin import check

PAIR = Key("pair", tuple[str, str], "{0[0]} and {0[1]} predicted as each other")


@check("pairs", PAIR)
def test_confusions_stay_rare(candidate, images, evidence, stress_check):
    predictions = candidate.predict(images, stress_check.pose)
    verdict = stress_check.judge(pair_failures(predictions, pair=stress_check[PAIR]))
    evidence.show(verdict, predictions)
    assert verdict.passed, verdict.explain()
