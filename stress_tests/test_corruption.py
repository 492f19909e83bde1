"""Damage that images meet in the world must not change what they show, and a model should doubt what it sees badly."""

from harness.data import one_in
from harness.gates import Key, one_of
from harness.inference import under_corruption
from harness.measures import accuracy, confidence_rise, mean_corruption_error
from harness.perturb.corruptions import ALL, CORRUPTIONS, SEVERITIES, Corruption
from harness.plugin import gate

CORRUPTION = Key(one_of([*CORRUPTIONS, ALL]), lambda name: name.replace("-", " "))
SEVERITY = Key(one_of(SEVERITIES), "{} of 5")


@gate("corruption", metric="accuracy", corruption=CORRUPTION, severity=SEVERITY)
def test_accuracy_survives_corruption(candidate, search_images, evidence, gate):
    images = one_in(2, search_images)
    predictions = candidate.predict(images, Corruption(gate.corruption, gate.severity))
    verdict = gate.judge(accuracy(predictions, clean=candidate.predict(images)))
    evidence.show(verdict, predictions)
    assert verdict.passed, verdict.explain()


@gate("corruption", metric="confidence_rise", corruption=CORRUPTION)
def test_confidence_falls_as_corruption_grows(candidate, search_images, evidence, gate):
    series = under_corruption(candidate, one_in(8, search_images), gate.corruption)[gate.corruption]
    verdict = gate.judge(confidence_rise(series))
    evidence.show(verdict, series[-1])
    assert verdict.passed, verdict.explain()


@gate("corruption", metric="mean_corruption_error", corruption=CORRUPTION)
def test_corruption_costs_no_more_than_it_costs_the_baseline(candidate, baseline, search_images, evidence, gate):
    images = one_in(8, search_images)
    corrupted = under_corruption(candidate, images, gate.corruption)
    verdict = gate.judge(mean_corruption_error(corrupted, under_corruption(baseline, images, gate.corruption)))
    evidence.show(verdict)
    assert verdict.passed, verdict.explain()
