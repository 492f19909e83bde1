"""No mark pulls images of other classes towards one class, as one in training images would."""

from harness.features.shortcut.pulls import find_pulls, shortcut_pull
from harness.plugin import check


@check("shortcut", metric="shortcut_pull")
def test_no_mark_pulls_towards_a_class(
    candidate, panel_images, panel_predictions, evidence, stress_check
):
    pull, marked = shortcut_pull(find_pulls(candidate, panel_images, panel_predictions))
    verdict = stress_check.judge(pull)
    evidence.show(verdict, marked)
    assert verdict.passed, verdict.explain()
