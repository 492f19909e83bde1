"""The model serves every group of images (camera, site, batch) as a reference model does."""

from harness.checks import Key
from harness.measures import group_accuracy, group_difference, group_gap, worst_group
from harness.plugin import check

BY, GROUP = Key("by", str, "by {}"), Key("group", str)
LEAST = Key("least", int, "of groups of at least {} images")
PAIRED_BY = Key("paired_by", str, "paired by {}")


@check("slice", BY, GROUP, metric="group_accuracy")
def test_a_group_is_served_as_well(candidate, images, evidence, stress_check):
    predictions = candidate.predict(images)
    verdict = stress_check.judge(
        group_accuracy(predictions, by=stress_check[BY], group=stress_check[GROUP])
    )
    evidence.show(verdict, predictions)
    assert verdict.passed, verdict.explain()


@check("slice", BY, GROUP, PAIRED_BY, metric="group_difference")
def test_a_group_is_served_as_well_as_the_others(candidate, images, evidence, stress_check):
    predictions = candidate.predict(images)
    group = {
        "by": stress_check[BY],
        "group": stress_check[GROUP],
        "paired_by": stress_check[PAIRED_BY],
    }
    verdict = stress_check.judge(group_difference(predictions, **group))
    evidence.show(verdict, predictions)
    assert verdict.passed, verdict.explain()


@check("slice", BY, LEAST, metric="worst_group_accuracy")
def test_the_worst_group_is_served_as_well(candidate, images, evidence, stress_check):
    predictions = candidate.predict(images)
    verdict = stress_check.judge(
        worst_group(predictions, by=stress_check[BY], least=stress_check[LEAST])
    )
    evidence.show(verdict, predictions)
    assert verdict.passed, verdict.explain()


@check("slice", BY, LEAST, metric="group_gap")
def test_no_group_is_far_below_another(candidate, images, evidence, stress_check):
    predictions = candidate.predict(images)
    verdict = stress_check.judge(
        group_gap(predictions, by=stress_check[BY], least=stress_check[LEAST])
    )
    evidence.show(verdict, predictions)
    assert verdict.passed, verdict.explain()
