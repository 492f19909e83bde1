"""Images of no class look less familiar to the model than those that it knows."""

from harness.checks import Key, one_of
from harness.checks.slices import ELSEWHERE
from harness.data import one_in
from harness.inference import under_unknown
from harness.measures import unknown_auroc, unknown_fpr95
from harness.measures.unknown import SCORES
from harness.perturb.unfamiliar import UNFAMILIAR
from harness.plugin import check

UNKNOWN = Key("unknown", one_of([*UNFAMILIAR, ELSEWHERE]), lambda kind: kind.replace("-", " "))
SCORE = Key("score", one_of(SCORES), "by {}")
SHA256 = Key("sha256", str, "")


@check("unknown", UNKNOWN, SCORE, SHA256, metric="unknown_auroc")
def test_unknown_images_look_less_familiar(
    candidate, panel_images, unknown_images, evidence, stress_check
):
    images = one_in(2, panel_images)
    unknown = under_unknown(candidate, images, stress_check[UNKNOWN], unknown_images)
    verdict = stress_check.judge(
        unknown_auroc(candidate.predict(images), unknown, score=stress_check[SCORE])
    )
    evidence.show(verdict)
    assert verdict.passed, verdict.explain()


@check("unknown", UNKNOWN, SCORE, SHA256, metric="unknown_fpr95")
def test_few_known_images_are_flagged_with_unknown_ones(
    candidate, panel_images, unknown_images, evidence, stress_check
):
    images = one_in(2, panel_images)
    unknown = under_unknown(candidate, images, stress_check[UNKNOWN], unknown_images)
    verdict = stress_check.judge(
        unknown_fpr95(candidate.predict(images), unknown, score=stress_check[SCORE])
    )
    evidence.show(verdict)
    assert verdict.passed, verdict.explain()
