"""A model must predict an image in the dark as it does in the light."""

from stress_darkness.measures import Darkened, changed_in_the_dark

from harness.checks import Key, Share
from harness.plugin import check

LIGHT = Key("light", Share, "{:.0%} of the light")


@check("darkness", LIGHT)
def test_predictions_hold_in_the_dark(candidate, images, evidence, stress_check):
    dark = candidate.predict(images, Darkened(stress_check[LIGHT]))
    verdict = stress_check.judge(changed_in_the_dark(dark, candidate.predict(images)))
    evidence.show(verdict, dark)
    assert verdict.passed, verdict.explain()
