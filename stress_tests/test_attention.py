"""The model must look at the object, whatever its pose; Grad-CAM says where it looks."""

from harness.data.masks import object_masks
from harness.gates import Key, one_of
from harness.measures import attention_drift, attention_lift, attention_ratio, dead_maps
from harness.plugin import gate

ANSWERS = Key(one_of(["wrong"]), "{} answers")


@gate("attention", metric="attention_ratio", answers=ANSWERS)
def test_attention_lies_on_the_object(candidate, search_images, evidence, gate):
    attention, masks = candidate.attend(search_images, gate.pose), object_masks(search_images)
    verdict = gate.judge(attention_ratio(attention, masks, of_class=gate.class_name, answers=gate.answers))
    evidence.show(verdict, attention.predictions)
    assert verdict.passed, verdict.explain()


@gate("attention", metric="attention_lift", answers=ANSWERS)
def test_attention_prefers_the_object(candidate, search_images, evidence, gate):
    attention, masks = candidate.attend(search_images, gate.pose), object_masks(search_images)
    verdict = gate.judge(attention_lift(attention, masks, of_class=gate.class_name, answers=gate.answers))
    evidence.show(verdict, attention.predictions)
    assert verdict.passed, verdict.explain()


@gate("attention", metric="attention_drift")
def test_attention_moves_with_the_object(candidate, search_images, evidence, gate):
    attention = candidate.attend(search_images, gate.pose)
    verdict = gate.judge(attention_drift(attention, candidate.attend(search_images)))
    evidence.show(verdict, attention.predictions)
    assert verdict.passed, verdict.explain()


@gate("attention", metric="dead_maps")
def test_attention_is_somewhere(candidate, search_images, evidence, gate):
    attention = candidate.attend(search_images, gate.pose)
    verdict = gate.judge(dead_maps(attention))
    evidence.show(verdict, attention.predictions)
    assert verdict.passed, verdict.explain()
