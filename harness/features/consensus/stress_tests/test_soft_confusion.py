"""On easy images, a model gives no other class more probability than reference models do."""

from harness.checks import Key
from harness.features.consensus.soft import (
    find_known_images,
    largest_soft_confusion,
    soft_confusion,
)
from harness.plugin import check

PAIR = Key("pair", tuple[str, str], "{0[0]} predicted as {0[1]}")


@check("soft_confusion", PAIR, metric="soft_confusion")
def test_a_pair_is_told_apart_on_easy_images(
    candidate, images, panel_predictions, evidence, stress_check
):
    seen = find_known_images(candidate.predict(images), panel_predictions)
    verdict = stress_check.judge(soft_confusion(seen, stress_check[PAIR]))
    evidence.show(verdict, seen)
    assert verdict.passed, verdict.explain()


@check("soft_confusion", metric="largest_soft_confusion")
def test_no_pair_is_confused_on_easy_images(
    candidate, images, panel_predictions, evidence, stress_check
):
    seen = find_known_images(candidate.predict(images), panel_predictions)
    verdict = stress_check.judge(largest_soft_confusion(seen))
    evidence.show(verdict, seen)
    assert verdict.passed, verdict.explain()
