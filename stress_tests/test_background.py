"""The object must decide the answer.

The background must not matter, and without the object no evidence is left.
"""

from harness.checks import Key, Share, one_of
from harness.data.images import object_masks
from harness.measures import object_dependence, prediction_consistency
from harness.perturb.backgrounds import BACKGROUNDS, with_background, without_object
from harness.plugin import check

BACKGROUND = Key("background", one_of(BACKGROUNDS), "background: {}")
STRENGTH = Key("strength", Share, "at {:.0%}")


@check("attention", BACKGROUND, STRENGTH, metric="prediction_consistency")
def test_answers_stay_before_another_background(candidate, search_images, evidence, stress_check):
    shown = with_background(
        search_images,
        object_masks(search_images),
        stress_check[BACKGROUND],
        strength=stress_check[STRENGTH],
    )
    verdict = stress_check.judge(
        prediction_consistency(candidate.predict(search_images), candidate.predict(shown.changed))
    )
    evidence.show(verdict, shown)
    assert verdict.passed, verdict.explain()


@check("attention", metric="object_dependence")
def test_answers_go_with_the_object(candidate, search_images, evidence, stress_check):
    shown = without_object(search_images, object_masks(search_images))
    verdict = stress_check.judge(
        object_dependence(candidate.predict(search_images), candidate.predict(shown.changed))
    )
    evidence.show(verdict, shown)
    assert verdict.passed, verdict.explain()
