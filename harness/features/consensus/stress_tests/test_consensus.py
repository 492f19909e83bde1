"""The model must predict the consensus set correctly, however good its accuracy."""

from harness.checks import Key, one_of
from harness.data import one_in
from harness.features.consensus.measures import (
    consensus_set_errors,
    find_consensus_set_errors,
    worst_class_consensus_set_errors,
)
from harness.features.consensus.soft import find_known_images, lost_probability, panel_divergence
from harness.inference import under_each
from harness.perturb.corruptions import CORRUPTIONS, SEVERITIES, corruptions_of
from harness.perturb.grids import VIEWS, VIEWS_IN_WORDS, views_of
from harness.plugin import check

UNDER = Key(
    "under",
    tuple[one_of(VIEWS), ...],
    lambda names: ", ".join(VIEWS_IN_WORDS[name] for name in names),
)
DAMAGED = Key(
    "damaged",
    tuple[tuple[one_of(CORRUPTIONS), one_of(SEVERITIES)], ...],
    lambda corruptions: f"{len(corruptions)} corruptions",
)


@check("consensus", UNDER, DAMAGED, metric="consensus_set_errors")
def test_few_errors_on_the_consensus_set(
    candidate, images, panel_images, panel_predictions, evidence, stress_check
):
    views = views_of(stress_check[UNDER], stress_check.pose, images.domain.augmentation)
    seen = under_each(candidate, images, views)
    damaged = under_each(candidate, one_in(2, panel_images), corruptions_of(stress_check[DAMAGED]))
    errors = find_consensus_set_errors(seen + damaged, panel_predictions)
    verdict = stress_check.judge(consensus_set_errors(errors))
    evidence.show(verdict, errors)
    assert verdict.passed, verdict.explain()


@check("consensus", UNDER, metric="worst_class_consensus_set_errors")
def test_few_errors_of_a_class_on_the_consensus_set(
    candidate, images, panel_predictions, evidence, stress_check
):
    views = views_of(stress_check[UNDER], stress_check.pose, images.domain.augmentation)
    errors = find_consensus_set_errors(under_each(candidate, images, views), panel_predictions)
    verdict = stress_check.judge(worst_class_consensus_set_errors(errors))
    evidence.show(verdict, errors)
    assert verdict.passed, verdict.explain()


@check("consensus", metric="panel_divergence")
def test_predictions_stay_near_the_panel(
    candidate, images, panel_predictions, evidence, stress_check
):
    seen = find_known_images(candidate.predict(images), panel_predictions)
    verdict = stress_check.judge(panel_divergence(seen))
    evidence.show(verdict, seen)
    assert verdict.passed, verdict.explain()


@check("consensus", metric="lost_probability")
def test_little_probability_is_lost_on_the_consensus_set(
    candidate, images, panel_predictions, evidence, stress_check
):
    seen = find_known_images(candidate.predict(images), panel_predictions)
    verdict = stress_check.judge(lost_probability(seen))
    evidence.show(verdict, seen)
    assert verdict.passed, verdict.explain()
