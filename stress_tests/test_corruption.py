"""Damage that images meet in the world must not change what they show, and a model should doubt what it sees badly."""

from harness.confidence import confidence_rise, mean_corruption_error
from harness.corruptions import Corruption, under_corruption
from harness.measures import accuracy
from harness.plugin import gate


@gate("corruption", metric="accuracy")
def test_accuracy_survives_corruption(candidate, search_images, evidence, gate):
    predictions = candidate.predict(search_images, Corruption(gate.corruption, gate.severity))
    verdict = gate.judge(accuracy(predictions, before=candidate.predict(search_images)))
    evidence.show(verdict, predictions)
    assert verdict.passed, verdict.explain()


@gate("corruption", metric="confidence_rise")
def test_confidence_falls_as_corruption_grows(candidate, probe_images, evidence, gate):
    corrupted = under_corruption(candidate, probe_images, gate.corruption)[gate.corruption]
    verdict = gate.judge(confidence_rise(candidate.predict(probe_images), corrupted))
    evidence.show(verdict, corrupted[-1])
    assert verdict.passed, verdict.explain()


@gate("corruption", metric="mean_corruption_error")
def test_corruption_costs_no_more_than_it_costs_the_baseline(candidate, baseline, probe_images, evidence, gate):
    corrupted = under_corruption(candidate, probe_images, gate.corruption)
    reference = under_corruption(baseline, probe_images, gate.corruption)
    verdict = gate.judge(mean_corruption_error(corrupted, reference))
    evidence.show(verdict)
    assert verdict.passed, verdict.explain()
