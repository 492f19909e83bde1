"""An export, a quantized or a compiled copy predicts as the model that it was made from."""

from harness.checks import Key, one_of
from harness.inference import under_each
from harness.measures import (
    calibration_error_change,
    confidence_moved,
    confidence_moved_p99,
    consensus_predictions_changed,
    correct_predictions_lost,
    pooled_predictions_changed,
    predictions_changed,
    worst_class_correct_predictions_lost,
    worst_class_predictions_changed,
    worst_group_predictions_changed,
)
from harness.perturb import IDENTITY
from harness.perturb.corruptions import CORRUPTIONS, SEVERITIES, corruptions_of
from harness.perturb.grids import VIEWS, views_of
from harness.plugin import check

UNDER = Key(
    "under", tuple[one_of(VIEWS), ...], lambda names: f"over {', '.join(names)}" if names else ""
)
DAMAGED = Key(
    "damaged",
    tuple[tuple[one_of(CORRUPTIONS), one_of(SEVERITIES)], ...],
    lambda each: f"over {len(each)} corruptions",
)
BY = Key("by", str, "by {}")


@check("equivalence", metric="predictions_changed")
def test_few_predictions_change(candidate, original, images, evidence, stress_check):
    predictions = candidate.predict(images, stress_check.pose)
    verdict = stress_check.judge(
        predictions_changed(predictions, original.predict(images, stress_check.pose))
    )
    evidence.show(verdict, predictions)
    assert verdict.passed, verdict.explain()


@check("equivalence", UNDER, DAMAGED, metric="pooled_predictions_changed")
def test_few_predictions_change_under_perturbation(
    candidate, original, panel_images, evidence, stress_check
):
    within = panel_images.domain.augmentation
    views = (
        *views_of(stress_check[UNDER] or (), IDENTITY, within),
        *corruptions_of(stress_check[DAMAGED]),
    )
    views = views or (stress_check.pose,)
    predictions = under_each(candidate, panel_images, views)
    verdict = stress_check.judge(
        pooled_predictions_changed(predictions, under_each(original, panel_images, views))
    )
    evidence.show(verdict)
    assert verdict.passed, verdict.explain()


@check("equivalence", metric="worst_class_predictions_changed")
def test_few_predictions_of_a_class_change(candidate, original, images, evidence, stress_check):
    predictions, before = candidate.predict(images), original.predict(images)
    measured = worst_class_predictions_changed(
        predictions, before, tolerance=stress_check.tolerance
    )
    verdict = stress_check.judge(measured)
    evidence.show(verdict, predictions)
    assert verdict.passed, verdict.explain()


@check("equivalence", BY, metric="worst_group_predictions_changed")
def test_few_predictions_of_a_group_change(candidate, original, images, evidence, stress_check):
    predictions, before = candidate.predict(images), original.predict(images)
    measured = worst_group_predictions_changed(
        predictions, before, by=stress_check[BY], tolerance=stress_check.tolerance
    )
    verdict = stress_check.judge(measured)
    evidence.show(verdict, predictions)
    assert verdict.passed, verdict.explain()


@check("equivalence", metric="consensus_predictions_changed")
def test_few_predictions_change_on_the_consensus_set(
    candidate, original, images, panel_predictions, evidence, stress_check
):
    predictions, before = candidate.predict(images), original.predict(images)
    (among,) = panel_predictions.consensus_sets([predictions])
    verdict = stress_check.judge(
        consensus_predictions_changed(predictions, before, among.consensus)
    )
    evidence.show(verdict, predictions)
    assert verdict.passed, verdict.explain()


@check("equivalence", metric="correct_predictions_lost")
def test_few_correct_predictions_are_lost(candidate, original, images, evidence, stress_check):
    predictions = candidate.predict(images, stress_check.pose)
    verdict = stress_check.judge(
        correct_predictions_lost(predictions, original.predict(images, stress_check.pose))
    )
    evidence.show(verdict, predictions)
    assert verdict.passed, verdict.explain()


@check("equivalence", metric="worst_class_correct_predictions_lost")
def test_few_correct_predictions_of_a_class_are_lost(
    candidate, original, images, evidence, stress_check
):
    predictions, before = candidate.predict(images), original.predict(images)
    measured = worst_class_correct_predictions_lost(
        predictions, before, tolerance=stress_check.tolerance
    )
    verdict = stress_check.judge(measured)
    evidence.show(verdict, predictions)
    assert verdict.passed, verdict.explain()


@check("equivalence", metric="confidence_moved")
def test_confidence_hardly_moves(candidate, original, images, evidence, stress_check):
    predictions = candidate.predict(images)
    verdict = stress_check.judge(confidence_moved(predictions, original.predict(images)))
    evidence.show(verdict, predictions)
    assert verdict.passed, verdict.explain()


@check("equivalence", metric="confidence_moved_p99")
def test_confidence_hardly_moves_for_99_percent(
    candidate, original, images, evidence, stress_check
):
    predictions = candidate.predict(images)
    verdict = stress_check.judge(confidence_moved_p99(predictions, original.predict(images)))
    evidence.show(verdict, predictions)
    assert verdict.passed, verdict.explain()


@check("equivalence", metric="calibration_error_change")
def test_confidence_stays_as_calibrated(candidate, original, images, evidence, stress_check):
    predictions = candidate.predict(images)
    verdict = stress_check.judge(calibration_error_change(predictions, original.predict(images)))
    evidence.show(verdict, predictions)
    assert verdict.passed, verdict.explain()
