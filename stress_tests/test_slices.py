"""Every group of images, such as those of a camera, a site or a batch, must be served as well as by a healthy model."""

from harness.gates import Key
from harness.measures import group_accuracy, group_gap, worst_group
from harness.plugin import gate

BY, LEAST = Key(str, "by {}"), Key(int, "of groups of at least {} images")


@gate("slice", metric="group_accuracy", by=BY, group=Key(str))
def test_a_group_is_served_as_well(candidate, images, evidence, gate):
    predictions = candidate.predict(images)
    verdict = gate.judge(group_accuracy(predictions, by=gate.by, group=gate.group))
    evidence.show(verdict, predictions)
    assert verdict.passed, verdict.explain()


@gate("slice", metric="worst_group_accuracy", by=BY, least=LEAST)
def test_the_worst_group_is_served_as_well(candidate, images, evidence, gate):
    predictions = candidate.predict(images)
    verdict = gate.judge(worst_group(predictions, by=gate.by, least=gate.least))
    evidence.show(verdict, predictions)
    assert verdict.passed, verdict.explain()


@gate("slice", metric="group_gap", by=BY, least=LEAST)
def test_no_group_is_far_below_another(candidate, images, evidence, gate):
    predictions = candidate.predict(images)
    verdict = gate.judge(group_gap(predictions, by=gate.by, least=gate.least))
    evidence.show(verdict, predictions)
    assert verdict.passed, verdict.explain()
