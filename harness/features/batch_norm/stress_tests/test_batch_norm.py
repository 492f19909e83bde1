"""Running statistics of batch norms must fit test images as in reference models.

They may fit neither worse nor better.
"""

from harness.checks import Key, one_of
from harness.features.batch_norm.distance import (
    batch_norm_distance,
    batch_norm_distance_minimum,
    batch_norm_misfit,
    find_batch_norm_distances,
)
from harness.features.batch_norm.metrics import GROUPS
from harness.perturb.augmentation import Augmentation, UserAugmentation
from harness.plugin import check

LAYERS = Key("layers", one_of(GROUPS), "{} layers")
AUGMENTATION = Key("augmentation", Augmentation, Augmentation.in_words)
FUNCTION = Key("augmentation_function", str, "augmented by {}")


@check("batch_norm", LAYERS, metric="batch_norm_distance")
def test_running_statistics_are_near(candidate, panel_images, evidence, stress_check):
    found = find_batch_norm_distances(candidate, panel_images)
    verdict = stress_check.judge(batch_norm_distance(found, stress_check[LAYERS]))
    evidence.show(verdict, candidate.predict(panel_images))
    assert verdict.passed, verdict.explain()


@check("batch_norm", LAYERS, metric="batch_norm_distance_minimum")
def test_running_statistics_are_not_too_near(candidate, panel_images, evidence, stress_check):
    found = find_batch_norm_distances(candidate, panel_images)
    verdict = stress_check.judge(batch_norm_distance_minimum(found, stress_check[LAYERS]))
    evidence.show(verdict, candidate.predict(panel_images))
    assert verdict.passed, verdict.explain()


@check("batch_norm", LAYERS, AUGMENTATION, FUNCTION, metric="batch_norm_misfit")
def test_running_statistics_are_those_of_the_augmentation(
    candidate, panel_images, evidence, stress_check
):
    augmentation = stress_check[AUGMENTATION]
    if function := stress_check[FUNCTION]:
        augmentation = UserAugmentation(function)

    distances = find_batch_norm_distances(candidate, panel_images, augmentation)
    verdict = stress_check.judge(batch_norm_misfit(distances, stress_check[LAYERS]))
    evidence.show(verdict, candidate.predict(panel_images))
    assert verdict.passed, verdict.explain()
