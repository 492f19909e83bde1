"""The model serves every group of images (a camera, a site, a batch) as well as a reference model does."""

from harness.checks import Key
from harness.measures import group_accuracy, group_gap, worst_group
from harness.plugin import check

BY, LEAST = Key(str, "by {}"), Key(int, "of groups of at least {} images")


@check("slice", metric="group_accuracy", by=BY, group=Key(str))
def test_a_group_is_served_as_well(candidate, images, evidence, stress_check):
    predictions = candidate.predict(images)
    verdict = stress_check.judge(group_accuracy(predictions, by=stress_check.by, group=stress_check.group))
    evidence.show(verdict, predictions)
    assert verdict.passed, verdict.explain()


@check("slice", metric="worst_group_accuracy", by=BY, least=LEAST)
def test_the_worst_group_is_served_as_well(candidate, images, evidence, stress_check):
    predictions = candidate.predict(images)
    verdict = stress_check.judge(worst_group(predictions, by=stress_check.by, least=stress_check.least))
    evidence.show(verdict, predictions)
    assert verdict.passed, verdict.explain()


@check("slice", metric="group_gap", by=BY, least=LEAST)
def test_no_group_is_far_below_another(candidate, images, evidence, stress_check):
    predictions = candidate.predict(images)
    verdict = stress_check.judge(group_gap(predictions, by=stress_check.by, least=stress_check.least))
    evidence.show(verdict, predictions)
    assert verdict.passed, verdict.explain()
