"""The model must not lose the probability of labels in any slice of the reference models."""

from harness.checks import Key
from harness.features.slices.measures import find_slices, slice_loss, worst_slice
from harness.plugin import check

SLICE = Key("slice", str, "slice {}")


@check("slices", metric="worst_slice")
def test_no_slice_is_lost(candidate, images, panel_predictions, evidence, stress_check):
    seen = find_slices(candidate.predict(images), panel_predictions)
    verdict = stress_check.judge(worst_slice(seen))
    evidence.show(verdict, seen.predictions)
    assert verdict.passed, verdict.explain()


@check("slices", SLICE, metric="slice_loss")
def test_a_slice_is_kept(candidate, images, panel_predictions, evidence, stress_check):
    seen = find_slices(candidate.predict(images), panel_predictions)
    verdict = stress_check.judge(slice_loss(seen, stress_check[SLICE]))
    evidence.show(verdict, seen.predictions)
    assert verdict.passed, verdict.explain()
