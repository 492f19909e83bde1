"""A digit is what it is, whatever its pose, the light on it and the photograph behind it."""

from dataclasses import dataclass

from torch import Tensor

from harness.checks import Key, Share, one_of
from harness.data.images import object_masks
from harness.measures import accuracy, confident_errors, pair_failures, prediction_consistency
from harness.measures.localisation import attention_lift
from harness.perturb.backgrounds import BACKGROUNDS, with_background
from harness.plugin import check


@check("clean")
def test_accuracy(candidate, images, evidence, stress_check):
    predictions = candidate.predict(images)
    verdict = stress_check.judge(accuracy(predictions))
    evidence.show(verdict, predictions)
    assert verdict.passed, verdict.explain()


@check("class")
def test_accuracy_of_each_digit(candidate, images, evidence, stress_check):
    predictions = candidate.predict(images)
    verdict = stress_check.judge(accuracy(predictions, of_class=stress_check.class_name))
    evidence.show(verdict, predictions)
    assert verdict.passed, verdict.explain()


@check("rotation")
def test_accuracy_survives_rotation(candidate, images, evidence, stress_check):
    predictions = candidate.predict(images, stress_check.pose)
    verdict = stress_check.judge(accuracy(predictions, clean=candidate.predict(images)))
    evidence.show(verdict, predictions)
    assert verdict.passed, verdict.explain()


@check("shift")
def test_accuracy_survives_shift(candidate, images, evidence, stress_check):
    predictions = candidate.predict(images, stress_check.pose)
    verdict = stress_check.judge(accuracy(predictions, clean=candidate.predict(images)))
    evidence.show(verdict, predictions)
    assert verdict.passed, verdict.explain()


CONFIDENCE = Key("confidence", Share, "errors over {:.0%} confidence")


@check("confidence", CONFIDENCE)
def test_confident_errors_stay_rare(candidate, images, evidence, stress_check):
    predictions = candidate.predict(images)
    verdict = stress_check.judge(confident_errors(predictions, above=stress_check[CONFIDENCE]))
    evidence.show(verdict, predictions)
    assert verdict.passed, verdict.explain()


PAIR = Key("pair", tuple[str, str], "{0[0]} and {0[1]} predicted as each other")


@check("pairs", PAIR)
def test_confusions_stay_rare(candidate, images, evidence, stress_check):
    predictions = candidate.predict(images)
    verdict = stress_check.judge(pair_failures(predictions, pair=stress_check[PAIR]))
    evidence.show(verdict, predictions)
    assert verdict.passed, verdict.explain()


BACKGROUND = Key("background", one_of(BACKGROUNDS), "background: {}")


@check("background", BACKGROUND)
def test_answers_stay_before_another_photograph(candidate, images, evidence, stress_check):
    shown = with_background(images, object_masks(images), stress_check[BACKGROUND])
    verdict = stress_check.judge(
        prediction_consistency(candidate.predict(images), candidate.predict(shown.changed))
    )
    evidence.show(verdict, shown)
    assert verdict.passed, verdict.explain()


@check("attention")
def test_attention_lies_on_the_digit(candidate, images, evidence, stress_check):
    attention = candidate.attend(images)
    verdict = stress_check.judge(attention_lift(attention, object_masks(images)))
    evidence.show(verdict, attention.predictions)
    assert verdict.passed, verdict.explain()


@dataclass(frozen=True)
class Dusk:
    """Light that goes, and the blue last: a perturbation of one's own."""

    strength: float

    def __call__(self, images: Tensor) -> Tensor:
        """Return the images (N, 3, H, W) in [0, 1], darker."""
        return images * (1 - self.strength * images.new_tensor([1.0, 0.8, 0.4]).view(1, 3, 1, 1))


STRENGTH = Key("strength", Share, "{:.0%} of the light gone")


@check("dusk", STRENGTH)
def test_accuracy_survives_dusk(candidate, images, evidence, stress_check):
    predictions = candidate.predict(images, Dusk(stress_check[STRENGTH]))
    verdict = stress_check.judge(accuracy(predictions, clean=candidate.predict(images)))
    evidence.show(verdict, predictions)
    assert verdict.passed, verdict.explain()
