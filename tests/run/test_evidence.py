"""The verdict of a test that shows several.

Only a worse failure, or an error, replaces a failure.
"""

import itertools

import pytest

from harness.checks import Check, Threshold, Verdict
from harness.measures import METRICS, Measurement
from harness.run.evidence import Evidence
from harness.run.tally import Tally


def judged(
    value: float, *, n: int = 1_000, metric: str = "accuracy", threshold: float | None = 0.9
) -> Verdict:
    hand = None if threshold is None else Threshold(threshold, n=1_000)
    check = Check("row", "clean", metric, hand=hand)
    return check.judge(Measurement(METRICS[metric], value, n, (value - 0.3, min(value + 0.3, 1.0))))


PASS, FAIL, WORSE = judged(0.95), judged(0.5), judged(0.4)


FEW = judged(0.8, n=10)
ERROR = Check("row", "clean", "accuracy").unjudged("error", "lost")
INFORMATIONAL = judged(0.1, threshold=None)
NOT_APPLICABLE = Check("row", "clean", "accuracy").unjudged("not_applicable", "no")


def shown(*verdicts: Verdict) -> Verdict:
    evidence = Evidence()
    for verdict in verdicts:
        evidence.show(verdict)
    assert evidence.verdict is not None
    return evidence.verdict


def test_the_cases_are_what_they_say():
    assert [each.status for each in (PASS, FAIL, WORSE, FEW)] == [
        "pass",
        "fail",
        "fail",
        "inconclusive",
    ]


@pytest.mark.parametrize("second", [PASS, FEW, INFORMATIONAL, NOT_APPLICABLE, judged(0.6)])
def test_a_failure_outlasts_what_is_shown_after_it(second):
    assert shown(FAIL, second) is FAIL
    assert shown(second, FAIL) is FAIL


def test_a_worse_failure_and_an_error_replace_a_failure():
    assert shown(FAIL, WORSE) is WORSE
    assert shown(FAIL, ERROR) is ERROR
    assert shown(ERROR, FAIL) is ERROR


def test_a_pass_is_not_lost_to_a_verdict_without_a_threshold():
    assert shown(PASS, INFORMATIONAL) is PASS


@pytest.mark.parametrize("order", list(itertools.permutations([PASS, FAIL, WORSE, FEW])))
def test_the_order_of_shows_decides_nothing(order):
    assert shown(*order) is WORSE


def test_of_a_hypothesis_test_the_last_failure_stands_for_all():
    evidence = Evidence()
    for verdict in (WORSE, FAIL, PASS):
        evidence.show(verdict)
    evidence.settle_on_last_failure()
    assert evidence.verdict is FAIL
    evidence.clear()
    evidence.show(PASS)
    evidence.settle_on_last_failure()
    assert evidence.verdict is PASS


@pytest.mark.parametrize(("first", "second"), [(FAIL, PASS), (FAIL, judged(0.6)), (ERROR, PASS)])
def test_a_test_that_runs_again_keeps_its_graver_verdict(first, second):
    tally = Tally()
    tally.take(first, test="test_it")
    tally.take(second, test="test_it")
    assert tally.verdicts["row"] is first
