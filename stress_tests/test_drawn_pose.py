"""Between the poses of a grid there are others; Hypothesis hunts for the worst of them."""

from hypothesis import given, seed, target

from harness.checks import Key
from harness.inference.search import changes
from harness.measures import accuracy, unchanged_share
from harness.perturb import Pose
from harness.perturb.strategies import drawn_poses
from harness.plugin import check

WITHIN = Key("within", Pose, "any pose within ±{0.degrees:g}°, ±{0.dx:g} px")


@check("search", WITHIN, metric="accuracy")
@seed(0)
@given(pose=drawn_poses(max_degrees=10, max_shift_px=2))
def test_accuracy_holds_at_drawn_poses(candidate, probe_images, evidence, stress_check, pose):
    predictions = candidate.predict(probe_images, pose.clamped(stress_check[WITHIN]))
    verdict = stress_check.judge(accuracy(predictions, clean=candidate.predict(probe_images)))
    evidence.show(verdict, predictions)
    target(-verdict.value)
    assert verdict.passed, verdict.explain()


@check("search", WITHIN, metric="unchanged_share")
def test_predictions_stay_at_drawn_poses(candidate, probe_images, evidence, stress_check):
    changed = changes(candidate.classifier, probe_images, stress_check[WITHIN], seed=0)
    verdict = stress_check.judge(unchanged_share(changed))
    evidence.show(verdict, changed)
    assert verdict.passed, verdict.explain()
