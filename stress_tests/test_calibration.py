"""A model's confidence must mean something.

Accuracy must match it, and it must be lowest on errors.
"""

from harness.measures import (
    brier_score,
    calibration_error,
    confidence_on_errors,
    negative_log_likelihood,
    risk_coverage_area,
)
from harness.plugin import check


@check("confidence", metric="calibration_error")
def test_confidence_is_calibrated(candidate, images, evidence, stress_check):
    verdict = stress_check.judge(calibration_error(candidate.predict(images, stress_check.pose)))
    evidence.show(verdict)
    assert verdict.passed, verdict.explain()


@check("confidence", metric="negative_log_likelihood")
def test_log_loss_stays_low(candidate, images, evidence, stress_check):
    verdict = stress_check.judge(
        negative_log_likelihood(candidate.predict(images, stress_check.pose))
    )
    evidence.show(verdict)
    assert verdict.passed, verdict.explain()


@check("confidence", metric="brier_score")
def test_brier_score_stays_low(candidate, images, evidence, stress_check):
    verdict = stress_check.judge(brier_score(candidate.predict(images, stress_check.pose)))
    evidence.show(verdict)
    assert verdict.passed, verdict.explain()


@check("confidence", metric="confidence_on_errors")
def test_errors_are_unsure(candidate, images, evidence, stress_check):
    predictions = candidate.predict(images, stress_check.pose)
    verdict = stress_check.judge(confidence_on_errors(predictions))
    evidence.show(verdict, predictions)
    assert verdict.passed, verdict.explain()


@check("confidence", metric="risk_coverage_area")
def test_the_surest_answers_are_right(candidate, images, evidence, stress_check):
    verdict = stress_check.judge(risk_coverage_area(candidate.predict(images, stress_check.pose)))
    evidence.show(verdict)
    assert verdict.passed, verdict.explain()
