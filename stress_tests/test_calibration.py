"""A model's confidence must mean something: as right as it is sure, and least sure where it is wrong."""

from harness.measures import (
    brier_score,
    calibration_error,
    confidence_on_errors,
    negative_log_likelihood,
    risk_coverage_area,
)
from harness.plugin import gate


@gate("confidence", metric="calibration_error")
def test_confidence_is_calibrated(candidate, images, evidence, gate):
    verdict = gate.judge(calibration_error(candidate.predict(images, gate.pose)))
    evidence.show(verdict)
    assert verdict.passed, verdict.explain()


@gate("confidence", metric="negative_log_likelihood")
def test_log_loss_stays_low(candidate, images, evidence, gate):
    verdict = gate.judge(negative_log_likelihood(candidate.predict(images, gate.pose)))
    evidence.show(verdict)
    assert verdict.passed, verdict.explain()


@gate("confidence", metric="brier_score")
def test_brier_score_stays_low(candidate, images, evidence, gate):
    verdict = gate.judge(brier_score(candidate.predict(images, gate.pose)))
    evidence.show(verdict)
    assert verdict.passed, verdict.explain()


@gate("confidence", metric="confidence_on_errors")
def test_errors_are_unsure(candidate, images, evidence, gate):
    predictions = candidate.predict(images, gate.pose)
    verdict = gate.judge(confidence_on_errors(predictions))
    evidence.show(verdict, predictions)
    assert verdict.passed, verdict.explain()


@gate("confidence", metric="risk_coverage_area")
def test_the_surest_answers_are_right(candidate, images, evidence, gate):
    verdict = gate.judge(risk_coverage_area(candidate.predict(images, gate.pose)))
    evidence.show(verdict)
    assert verdict.passed, verdict.explain()
