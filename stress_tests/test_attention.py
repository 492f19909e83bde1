"""The model must look at the object, whatever its pose; Grad-CAM says where it looks."""

from harness.checks import Key, one_of
from harness.data.images import object_masks
from harness.measures import attention_drift, attention_lift, attention_ratio, dead_maps
from harness.plugin import check

ANSWERS = Key("answers", one_of(["wrong"]), "{} answers")


@check("attention", ANSWERS, metric="attention_ratio")
def test_attention_lies_on_the_object(candidate, search_images, evidence, stress_check):
    attention, masks = (
        candidate.attend(search_images, stress_check.pose),
        object_masks(search_images),
    )
    verdict = stress_check.judge(
        attention_ratio(
            attention, masks, of_class=stress_check.class_name, answers=stress_check[ANSWERS]
        )
    )
    evidence.show(verdict, attention.predictions)
    assert verdict.passed, verdict.explain()


@check("attention", ANSWERS, metric="attention_lift")
def test_attention_prefers_the_object(candidate, search_images, evidence, stress_check):
    attention, masks = (
        candidate.attend(search_images, stress_check.pose),
        object_masks(search_images),
    )
    verdict = stress_check.judge(
        attention_lift(
            attention, masks, of_class=stress_check.class_name, answers=stress_check[ANSWERS]
        )
    )
    evidence.show(verdict, attention.predictions)
    assert verdict.passed, verdict.explain()


@check("attention", metric="attention_drift")
def test_attention_moves_with_the_object(candidate, search_images, evidence, stress_check):
    attention = candidate.attend(search_images, stress_check.pose)
    verdict = stress_check.judge(attention_drift(attention, candidate.attend(search_images)))
    evidence.show(verdict, attention.predictions)
    assert verdict.passed, verdict.explain()


@check("attention", metric="dead_maps")
def test_attention_is_somewhere(candidate, search_images, evidence, stress_check):
    attention = candidate.attend(search_images, stress_check.pose)
    verdict = stress_check.judge(dead_maps(attention))
    evidence.show(verdict, attention.predictions)
    assert verdict.passed, verdict.explain()
