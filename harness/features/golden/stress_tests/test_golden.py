"""Golden images, which must never be wrong again, are correct."""

from harness.checks import Key
from harness.features.golden.measures import golden_right
from harness.plugin import check

IMAGE, BECAUSE = Key("image", int, ""), Key("because", str)


@check("golden", IMAGE, BECAUSE)
def test_golden_image_is_right(candidate, golden_images, evidence, stress_check):
    predictions = candidate.predict(golden_images)
    verdict = stress_check.judge(
        golden_right(predictions, stress_check[IMAGE], because=stress_check[BECAUSE])
    )
    evidence.show(verdict, predictions)
    assert verdict.passed, verdict.explain()
