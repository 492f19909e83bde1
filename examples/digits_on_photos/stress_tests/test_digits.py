"""A digit is what it is, whatever its pose, the light on it and the photograph behind it."""

from dataclasses import dataclass

from torch import Tensor

from harness.data.masks import object_masks
from harness.gates import Key, Share, one_of
from harness.measures import accuracy, confident_errors, kept, pair_failures
from harness.measures.localisation import attention_lift
from harness.perturb.backgrounds import BACKGROUNDS, with_background
from harness.plugin import gate


@gate("clean")
def test_accuracy(candidate, images, evidence, gate):
    predictions = candidate.predict(images)
    verdict = gate.judge(accuracy(predictions))
    evidence.show(verdict, predictions)
    assert verdict.passed, verdict.explain()


@gate("class")
def test_accuracy_of_each_digit(candidate, images, evidence, gate):
    predictions = candidate.predict(images)
    verdict = gate.judge(accuracy(predictions, of_class=gate.class_name))
    evidence.show(verdict, predictions)
    assert verdict.passed, verdict.explain()


@gate("rotation")
def test_accuracy_survives_rotation(candidate, images, evidence, gate):
    predictions = candidate.predict(images, gate.pose)
    verdict = gate.judge(accuracy(predictions, clean=candidate.predict(images)))
    evidence.show(verdict, predictions)
    assert verdict.passed, verdict.explain()


@gate("shift")
def test_accuracy_survives_shift(candidate, images, evidence, gate):
    predictions = candidate.predict(images, gate.pose)
    verdict = gate.judge(accuracy(predictions, clean=candidate.predict(images)))
    evidence.show(verdict, predictions)
    assert verdict.passed, verdict.explain()


@gate("confidence", confidence=Key(Share, "errors over {:.0%} confidence"))
def test_confident_errors_stay_rare(candidate, images, evidence, gate):
    predictions = candidate.predict(images)
    verdict = gate.judge(confident_errors(predictions, above=gate.confidence))
    evidence.show(verdict, predictions)
    assert verdict.passed, verdict.explain()


@gate("pairs", pair=Key(tuple[str, str], "{0[0]} and {0[1]} taken for each other"))
def test_confusions_stay_rare(candidate, images, evidence, gate):
    predictions = candidate.predict(images)
    verdict = gate.judge(pair_failures(predictions, pair=gate.pair))
    evidence.show(verdict, predictions)
    assert verdict.passed, verdict.explain()


@gate("background", background=Key(one_of(BACKGROUNDS), "background: {}"))
def test_answers_stay_before_another_photograph(candidate, images, evidence, gate):
    shown = with_background(images, object_masks(images), gate.background)
    verdict = gate.judge(kept(candidate.predict(images), candidate.predict(shown.changed)))
    evidence.show(verdict, shown)
    assert verdict.passed, verdict.explain()


@gate("attention")
def test_attention_lies_on_the_digit(candidate, images, evidence, gate):
    attention = candidate.attend(images)
    verdict = gate.judge(attention_lift(attention, object_masks(images)))
    evidence.show(verdict, attention.predictions)
    assert verdict.passed, verdict.explain()


@dataclass(frozen=True)
class Dusk:
    """Light that goes, and the blue last: a perturbation of one's own."""

    strength: float

    def __call__(self, images: Tensor) -> Tensor:
        """Return the images (N, 3, H, W) in [0, 1], darker."""
        return images * (1 - self.strength * images.new_tensor([1.0, 0.8, 0.4]).view(1, 3, 1, 1))


@gate("dusk", strength=Key(Share, "{:.0%} of the light gone"))
def test_accuracy_survives_dusk(candidate, images, evidence, gate):
    predictions = candidate.predict(images, Dusk(gate.strength))
    verdict = gate.judge(accuracy(predictions, clean=candidate.predict(images)))
    evidence.show(verdict, predictions)
    assert verdict.passed, verdict.explain()
