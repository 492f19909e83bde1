"""The object must decide the answer: what is behind it must not matter, and without it nothing is left."""

from harness.data.masks import object_masks
from harness.gates import Key, Share, one_of
from harness.measures import kept, lost
from harness.perturb.backgrounds import BACKGROUNDS, with_background, without_object
from harness.plugin import gate

BACKGROUND = Key(one_of(BACKGROUNDS), "background: {}")
STRENGTH = Key(Share, "at {:.0%}")


@gate("attention", metric="kept", background=BACKGROUND, strength=STRENGTH)
def test_answers_stay_before_another_background(candidate, search_images, evidence, gate):
    shown = with_background(search_images, object_masks(search_images), gate.background, strength=gate.strength)
    verdict = gate.judge(kept(candidate.predict(search_images), candidate.predict(shown.changed)))
    evidence.show(verdict, shown)
    assert verdict.passed, verdict.explain()


@gate("attention", metric="lost")
def test_answers_go_with_the_object(candidate, search_images, evidence, gate):
    shown = without_object(search_images, object_masks(search_images))
    verdict = gate.judge(lost(candidate.predict(search_images), candidate.predict(shown.changed)))
    evidence.show(verdict, shown)
    assert verdict.passed, verdict.explain()
