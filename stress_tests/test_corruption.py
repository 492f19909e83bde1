"""Common damage of images must not change predictions, and lowers a model's confidence."""

from harness.checks import Key, one_of
from harness.data import one_in
from harness.inference import under_corruption
from harness.measures import accuracy, confidence_rise, mean_corruption_error
from harness.perturb.corruptions import ALL, CORRUPTIONS, SEVERITIES, Corruption
from harness.plugin import check

CORRUPTION = Key("corruption", one_of([*CORRUPTIONS, ALL]), lambda name: name.replace("-", " "))
SEVERITY = Key("severity", one_of(SEVERITIES), "{} of 5")


@check("corruption", CORRUPTION, SEVERITY, metric="accuracy")
def test_accuracy_survives_corruption(candidate, search_images, evidence, stress_check):
    images = one_in(2, search_images)
    predictions = candidate.predict(
        images, Corruption(stress_check[CORRUPTION], stress_check[SEVERITY])
    )
    verdict = stress_check.judge(accuracy(predictions, clean=candidate.predict(images)))
    evidence.show(verdict, predictions)
    assert verdict.passed, verdict.explain()


@check("corruption", CORRUPTION, metric="confidence_rise")
def test_confidence_falls_as_corruption_grows(candidate, search_images, evidence, stress_check):
    series = under_corruption(candidate, one_in(8, search_images), stress_check[CORRUPTION])[
        stress_check[CORRUPTION]
    ]
    verdict = stress_check.judge(confidence_rise(series))
    evidence.show(verdict, series[-1])
    assert verdict.passed, verdict.explain()


@check("corruption", CORRUPTION, metric="mean_corruption_error")
def test_corruption_costs_no_more_than_it_costs_the_baseline(
    candidate, baseline, search_images, evidence, stress_check
):
    images = one_in(8, search_images)
    corrupted = under_corruption(candidate, images, stress_check[CORRUPTION])
    verdict = stress_check.judge(
        mean_corruption_error(
            corrupted, under_corruption(baseline, images, stress_check[CORRUPTION])
        )
    )
    evidence.show(verdict)
    assert verdict.passed, verdict.explain()
