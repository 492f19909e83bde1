"""The label must keep its probability, also where every prediction stays correct."""

from harness.checks import Key, one_of
from harness.features.label_probability.measures import (
    label_probability,
    label_probability_change,
    log_loss,
    log_loss_change,
)
from harness.inference import along
from harness.perturb.grids import VIEWS_IN_WORDS, views_of
from harness.plugin import check

VIEW = Key("view", tuple[one_of(["mirrored"])], lambda names: VIEWS_IN_WORDS[names[0]])


@check("label_probability", VIEW, metric="label_probability")
def test_labels_are_probable(candidate, images, evidence, stress_check):
    clean, view = along(candidate, images, *views_of(stress_check[VIEW], stress_check.pose))
    verdict = stress_check.judge(label_probability(view, clean=clean))
    evidence.show(verdict, view)
    assert verdict.passed, verdict.explain()


@check("label_probability", VIEW, metric="log_loss")
def test_log_loss_stays_low(candidate, images, evidence, stress_check):
    clean, view = along(candidate, images, *views_of(stress_check[VIEW], stress_check.pose))
    verdict = stress_check.judge(log_loss(view, clean=clean))
    evidence.show(verdict, view)
    assert verdict.passed, verdict.explain()


@check("augmentation_gap", VIEW, metric="label_probability_change")
def test_labels_keep_their_probability(candidate, images, evidence, stress_check):
    clean, view = along(candidate, images, *views_of(stress_check[VIEW], stress_check.pose))
    verdict = stress_check.judge(label_probability_change(clean, view))
    evidence.show(verdict, view)
    assert verdict.passed, verdict.explain()


@check("augmentation_gap", VIEW, metric="log_loss_change")
def test_log_loss_does_not_rise(candidate, images, evidence, stress_check):
    clean, view = along(candidate, images, *views_of(stress_check[VIEW], stress_check.pose))
    verdict = stress_check.judge(log_loss_change(clean, view))
    evidence.show(verdict, view)
    assert verdict.passed, verdict.explain()
